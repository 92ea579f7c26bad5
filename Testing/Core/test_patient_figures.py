"""What may be read off a volume, and within which bounds the patient's own is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from diff2ct.dicom_file import private_text
from diff2ct.patient_figures import figures_of, figures_with_intervals
from diff2ct.reconstruct import reconstruct
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import read_volume, write_volume
from tiny import tiny_body, tiny_calibration, tiny_checkpoint, tiny_radiographs

SIZE = (32, 32, 32)
BODY = torch.zeros(SIZE, dtype=torch.bool)
BODY[:, 4:28, 4:28] = True


def test_figures_count_millilitres() -> None:
    hu = torch.where(BODY, 40.0, -1000.0)
    hu[10:14, 10:14, 10:14] = 3000.0
    hu[:, :2, :2] = 400.0  # a table
    found = figures_of(hu, 0.008)
    assert found["metal_ml"] == found["bone_ml"] == pytest.approx(64 * 0.008)
    assert found["body_ml"] == pytest.approx(32 * 24 * 24 * 0.008)
    assert found["body_mean_hu"] == pytest.approx((40 * (32 * 24 * 24 - 64) + 3000 * 64) / (32 * 24 * 24), rel=1e-4)
    hu[20:24, 10:14, 10:16] = -800.0
    assert found["gas_ml"] == 0.0 and figures_of(hu, 0.008)["gas_ml"] == pytest.approx(96 * 0.008)


def test_intervals_reach_as_far_as_the_bounds_and_no_amount_is_below_nothing() -> None:
    body = CtVolume(torch.where(BODY, 40.0, -1000.0).numpy(), VolumeGrid.centered(32, 5.0))
    bounds = {"body_mean_hu": {"0.5": 9.0, "0.8": 50.0, "0.9": 60.0}, "metal_ml": {"0.8": 3.0}, "bone_ml": {}}
    metal, mean = figures_with_intervals(body, bounds)
    assert metal.intervals == {"0.8": (0.0, 3.0)}, "few cases bound 80 % alone"
    assert str(metal) == "metal above 2500 HU: 0 ml, 80 % interval 0 to 3 ml"
    assert str(mean) == "mean of the body: 40 HU, 80 % interval -10 to 90 HU, 90 % interval -20 to 100 HU"


def test_there_is_no_mean_of_no_body() -> None:
    air = CtVolume(np.full(SIZE, -1000.0), VolumeGrid.centered(32, 5.0))
    (body,) = figures_with_intervals(air, {"body_mean_hu": {"0.8": 5.0}, "body_ml": {"0.8": 300.0}})
    assert body.name == "body_ml" and body.value == 0


def test_a_reconstruction_tells_them_and_whether_they_may_not_hold(tmp_path: Path) -> None:
    calibration = replace(tiny_calibration(), bounds={"body_ml": {"0.8": 10.0, "0.9": 20.0}, "gas_ml": {"0.8": 10.0}})
    checkpoint = replace(tiny_checkpoint(), calibration=calibration)
    pair = tiny_radiographs(tiny_body())
    result = reconstruct(pair, checkpoint, num_steps=2, num_samples=2, consistency=False)
    body, gas = result.figures
    expected = figures_of(torch.from_numpy(result.volume.hu), 16.0**3 / 1000)
    assert (body.value, gas.value) == (expected["body_ml"], expected["gas_ml"])
    assert body.intervals["0.8"] == (body.value - 10, body.value + 10)
    assert body.intervals["0.9"] == (body.value - 20, body.value + 20)
    assert result.provenance["Figures"] == f"{body}; {gas}"

    for path in (tmp_path / "a.nrrd", tmp_path / "dicom"):
        write_volume(result.volume, path, attributes=result.provenance)
    assert read_volume(tmp_path / "a.nrrd")[1]["Figures"] == f"{body}; {gas}"
    assert f"{body}; {gas}" in str(private_text(pydicom.dcmread(next((tmp_path / "dicom").iterdir()))))

    other = reconstruct(pair, checkpoint, num_steps=2, num_samples=3, consistency=False)
    assert other.calibration_limits and other.provenance["Figures"].endswith(
        "; the intervals may not hold here, see CalibrationLimits"
    )
    bare = reconstruct(pair, replace(checkpoint, calibration=None), num_steps=2)
    assert bare.figures == () and "Figures" not in bare.provenance
