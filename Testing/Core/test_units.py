import numpy as np
import pytest
import torch

from diff2ct.units import HU_WINDOW, MU_WATER_PER_MM, HuMap, hu_to_mu, mu_to_hu


def test_water_air_and_the_way_back() -> None:
    hu = np.array([-1000.0, 0.0, 1000.0, 4096.0])
    mu = hu_to_mu(hu)
    assert mu[0] == 0
    assert mu[1] == pytest.approx(MU_WATER_PER_MM)
    np.testing.assert_allclose(mu_to_hu(mu), hu, atol=1e-9)


def test_scanner_padding_never_becomes_negative_attenuation() -> None:
    assert float(hu_to_mu(torch.tensor([-1024.0, -3000.0])).min()) == 0


@pytest.mark.parametrize("kind", ["linear", "asinh"])
@pytest.mark.parametrize("make", [np.float32, np.float64, torch.tensor])
def test_hu_map_round_trip_inside_the_window(kind: str, make) -> None:
    values = np.linspace(*HU_WINDOW, 501)
    hu = torch.tensor(values) if make is torch.tensor else values.astype(make)
    x = HuMap(kind).to_x(hu)
    assert float(x.min()) == pytest.approx(-1, abs=1e-6)
    assert float(x.max()) == pytest.approx(1, abs=1e-6)
    assert np.abs(np.asarray(HuMap(kind).to_hu(x)) - values).max() < 0.01


def test_hu_map_clips_outside_the_window() -> None:
    hu_map = HuMap("asinh")
    assert float(hu_map.to_x(np.array([9000.0]))[0]) == pytest.approx(1)
    assert float(hu_map.to_hu(np.array([-3.0]))[0]) == HU_WINDOW[0]


def test_asinh_gives_bone_the_room_it_promises() -> None:
    bone, soft = np.array([300.0]), np.array([40.0])
    spread = {kind: float((HuMap(kind).to_x(bone) - HuMap(kind).to_x(soft))[0]) for kind in ("linear", "asinh")}
    assert spread["linear"] == pytest.approx(0.102, abs=0.001)
    assert spread["asinh"] > 2.5 * spread["linear"]


def test_bad_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="log"):
        HuMap("log")
    with pytest.raises(ValueError, match="knee_hu"):
        HuMap("asinh", knee_hu=0)


def test_water_attenuates_at_70_kev_as_the_tables_say() -> None:
    """NIST: 0.2059 cm2/g at 60 keV and 0.1837 at 80 keV; straight between them on logarithmic axes."""
    per_cm = np.exp(np.interp(np.log(70), np.log([60, 80]), np.log([0.2059, 0.1837])))
    assert pytest.approx(per_cm / 10, rel=1e-3) == MU_WATER_PER_MM


@pytest.mark.parametrize("knee_hu", [100.0, 250.0, 1000.0])
def test_a_map_with_any_knee_leads_back(knee_hu: float) -> None:
    hu, hu_map = np.linspace(*HU_WINDOW, 101), HuMap("asinh", knee_hu)
    np.testing.assert_allclose(hu_map.to_hu(hu_map.to_x(hu)), hu, atol=1e-8)
    low, zero, high = np.arcsinh(np.array([HU_WINDOW[0], 0.0, HU_WINDOW[1]]) / knee_hu)
    assert float(hu_map.to_x(np.zeros(1))[0]) == pytest.approx((2 * zero - low - high) / (high - low))


@pytest.mark.parametrize("kind", ["linear", "asinh"])
@pytest.mark.parametrize("hu", [np.zeros(2, np.float32), torch.zeros(2), torch.zeros(2, dtype=torch.float64)], ids=str)
def test_no_conversion_changes_the_precision(kind: str, hu) -> None:
    hu_map = HuMap(kind)
    assert hu_map.to_x(hu).dtype == hu_map.to_hu(hu).dtype == hu_to_mu(hu).dtype == mu_to_hu(hu).dtype == hu.dtype
