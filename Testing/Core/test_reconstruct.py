import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diff2ct import precision
from diff2ct.checkpoint import Checkpoint, load_checkpoint
from diff2ct.consistency import Consistency
from diff2ct.cycle_spinning import moved_back, moved_grid, shift_of
from diff2ct.diffusion import SAMPLERS, Cancelled, Sampling
from diff2ct.geometry import ConeBeam, FanBeam, View, as_kind, beam_from_dict
from diff2ct.networks import X2NoiseNet
from diff2ct.phantom import LumbarPhantom, make_phantom
from diff2ct.projector import project
from diff2ct.radiograph import Radiograph
from diff2ct.radiograph_pair import check_pair
from diff2ct.reconstruct import frontal_and_lateral, reconstruct, reproject, sample_seed
from diff2ct.told import unexplained
from diff2ct.translator import translate
from diff2ct.units import hu_to_mu
from diff2ct.volume import CtVolume, VolumeGrid
from diff2ct.volume_io import read_volume, write_volume
from tiny import GRID, tiny_body, tiny_calibration, tiny_checkpoint, tiny_radiographs, tiny_translator


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return tiny_checkpoint()


def test_volume_lies_on_the_grid_about_the_isocentre(checkpoint: Checkpoint) -> None:
    isocenter = (30.0, -20.0, 550.0)
    x, y, z = GRID.origin_lps
    grid = replace(GRID, origin_lps=(x + 30, y - 20, z + 550))
    result = reconstruct(tiny_radiographs(tiny_body(grid), isocenter), checkpoint, num_steps=2)
    assert result.volume.grid == grid
    assert result.volume.hu.min() >= -1000 and result.volume.hu.max() <= 4096
    assert result.sd_hu is None
    assert "not for diagnosis" in result.provenance["Notice"]
    assert result.provenance["Arithmetic"] in ("bfloat16 on cpu", "float32 on cpu")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_the_written_volume_tells_where_its_x_rays_were_taken(checkpoint: Checkpoint, tmp_path: Path, suffix: str) -> None:
    """Also what was assumed of it: the names are in "Assumed", the values here."""
    pair = [replace(r, assumed=("source_to_detector_mm",)) for r in tiny_radiographs(tiny_body())]
    result = reconstruct(pair[::-1], replace(checkpoint, sha256="5" * 64), num_steps=1)
    write_volume(result.volume, tmp_path / f"ct{suffix}", attributes=result.provenance)
    _, attributes = read_volume(tmp_path / f"ct{suffix}")
    assert result.provenance.items() <= attributes.items() and attributes["Assumed"] == "source_to_detector_mm"
    assert [beam_from_dict(values) for values in json.loads(attributes["Geometry"])] == [r.geometry for r in pair]


def test_same_seed_same_volume_whatever_the_number_of_samples(checkpoint: Checkpoint) -> None:
    pair = tiny_radiographs(tiny_body())
    one, again, other = (reconstruct(pair, checkpoint, num_steps=2, seed=s).volume.hu for s in (4, 4, 5))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1
    several = reconstruct(pair, checkpoint, num_steps=2, seed=4, num_samples=3)
    np.testing.assert_array_equal(several.samples_hu[0], one)
    np.testing.assert_allclose(several.volume.hu, several.samples_hu.mean(0), atol=1e-3)
    np.testing.assert_allclose(several.sd_hu, several.samples_hu.std(0, ddof=1), atol=1e-2)
    assert len({sample_seed(seed, n) for seed in (4, 5) for n in range(3)}) == 6 and several.sd_hu.max() > 1


def test_further_samples_are_drawn_on_moved_grids_and_moved_back(checkpoint: Checkpoint) -> None:
    """As if the patient lay elsewhere in the cube."""
    pair = tiny_radiographs(tiny_body())
    several = reconstruct(pair, checkpoint, num_steps=2, seed=4, num_samples=3)
    assert several.provenance["Sampler"].endswith("2 steps, 3 samples, cycle spinning")
    for n in (1, 2):
        moved = replace(checkpoint, grid=moved_grid(checkpoint.grid, shift_of(n)))
        by_hand = torch.from_numpy(reconstruct(pair, moved, num_steps=2, seed=sample_seed(4, n)).volume.hu)
        np.testing.assert_allclose(several.samples_hu[n], moved_back(by_hand, shift_of(n)).numpy(), atol=0.05)


def test_a_correction_at_each_step_is_of_one_grid(checkpoint: Checkpoint) -> None:
    calibrated, pair = replace(checkpoint, calibration=tiny_calibration()), tiny_radiographs(tiny_body())
    several = reconstruct(pair, calibrated, num_steps=2, seed=4, num_samples=2, consistency=Consistency(when="steps"))
    second = reconstruct(pair, calibrated, num_steps=2, seed=sample_seed(4, 1), consistency=Consistency(when="steps"))
    np.testing.assert_allclose(several.samples_hu[1], second.samples_hu[0], atol=0.05)
    assert "cycle spinning" not in several.provenance["Sampler"]


def test_what_is_known_of_the_x_rays_is_not_rounded_where_the_network_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A band of detail is the small difference of two blurred images."""
    known: list[torch.Tensor] = []
    embed = X2NoiseNet.embed_condition
    monkeypatch.setattr(X2NoiseNet, "embed_condition", lambda self, c, size: known.append(c.clone()) or embed(self, c, size))
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr("diff2ct.precision.fastest_dtype", lambda device, dtype=dtype: dtype)
        reconstruct(tiny_radiographs(tiny_body()), tiny_checkpoint(), num_steps=1, num_samples=2)
    assert len(known) == 4 and all(c.dtype == torch.float32 for c in known)
    for one, other in zip(known[:2], known[2:], strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("sampler", ["dpm-solver", "ddpm"])
def test_samples_drawn_together_are_those_drawn_one_by_one(
    checkpoint: Checkpoint, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, found, seen = tiny_radiographs(tiny_body()), [], []
    monkeypatch.setattr(precision, "fastest_dtype", lambda device: torch.float32)
    calibrated = replace(checkpoint, calibration=tiny_calibration())
    for at_once in (1, 2, 3):
        monkeypatch.setattr("diff2ct.reconstruct.samples_at_once", lambda *_, count=at_once: count)
        result = reconstruct(
            pair, calibrated, num_steps=2, num_samples=3, sampler=sampler, consistency=Consistency(when="steps"),
            on_step=lambda done, steps: seen.append((done, steps)),
        )  # fmt: skip
        found.append(result)
    for together in found[1:]:
        np.testing.assert_allclose(together.samples_hu, found[0].samples_hu, atol=0.05)
        assert together.reprojection_before[0] == pytest.approx(found[0].reprojection_before[0], abs=1e-5)
    assert seen[6:] == [(2, 6), (4, 6), (5, 6), (6, 6), (3, 6), (6, 6)]


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("GET was unable to find an engine to execute this computation"),  # cuDNN without room to work in
    ],
    ids=["CUDA", "cuDNN"],
)
def test_samples_that_do_not_fit_together_after_all_are_drawn_fewer_at_a_time(
    error: Exception, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "fastest_dtype", lambda device: torch.float32)
    pair, draw = tiny_radiographs(tiny_body()), SAMPLERS["ddim"]
    one_by_one = reconstruct(pair, checkpoint, num_steps=2, num_samples=5, sampler="ddim")
    drawn: list[int] = []

    def short_of_memory(denoiser, alpha_bar, timesteps, noise, **options):  # type: ignore[no-untyped-def]
        drawn.append(len(noise._generators))
        if drawn[-1] > room:
            raise error
        return draw(denoiser, alpha_bar, timesteps, noise, **options)

    room = 2
    monkeypatch.setitem(SAMPLERS, "ddim", short_of_memory)
    monkeypatch.setattr("diff2ct.reconstruct.samples_at_once", lambda *_: 5)
    fewer = reconstruct(pair, checkpoint, num_steps=2, num_samples=5, sampler="ddim")
    assert drawn == [5, 2, 2, 1] and "5 samples at once do not fit" in caplog.text
    np.testing.assert_allclose(fewer.samples_hu, one_by_one.samples_hu, atol=0.05)
    room = 0
    with pytest.raises(type(error), match=str(error)):
        reconstruct(pair, checkpoint, num_steps=2, num_samples=5, sampler="ddim")


def test_order_of_the_views_does_not_matter(checkpoint: Checkpoint) -> None:
    pair = tiny_radiographs(tiny_body())
    first, second = (reconstruct(p, checkpoint, num_steps=2) for p in (pair, pair[::-1]))
    np.testing.assert_array_equal(first.volume.hu, second.volume.hu)
    assert first.reprojection == second.reprojection


def test_gain_and_offset_do_not_change_the_volume(checkpoint: Checkpoint) -> None:
    pair = tiny_radiographs(tiny_body())
    louder = [replace(r, line_integral=3.0 * r.line_integral + 2.0) for r in pair]
    plain, loud = (reconstruct(p, checkpoint, num_steps=2).volume.hu for p in (pair, louder))
    assert np.abs(plain - loud).mean() < 5  # bfloat16 rounds; gain and offset themselves would move everything


def test_progress_counts_all_samples_and_cancel_stops_between_steps(checkpoint: Checkpoint) -> None:
    seen: list[tuple[int, int]] = []
    with pytest.raises(Cancelled):
        reconstruct(
            tiny_radiographs(tiny_body()),
            checkpoint,
            num_steps=2,
            num_samples=3,
            on_step=lambda done, steps: seen.append((done, steps)),
            is_cancelled=lambda: len(seen) == 5,
        )
    assert seen == [(1, 6), (2, 6), (3, 6), (4, 6), (5, 6)]


def test_a_checkpoint_says_how_it_is_sampled_unless_the_user_does(checkpoint: Checkpoint) -> None:
    pair, slow = tiny_radiographs(tiny_body()), replace(checkpoint, sampling=Sampling(sampler="ddim", num_steps=5))
    assert reconstruct(pair, slow).provenance["Sampler"] == "ddim, 5 steps, 1 samples"
    assert reconstruct(pair, slow, num_steps=2).provenance["Sampler"] == "ddim, 2 steps, 1 samples"
    assert reconstruct(pair, slow, sampler="ddpm").provenance["Sampler"] == "ddpm, 5 steps, 1 samples"


def test_two_frontal_views_are_refused() -> None:
    with pytest.raises(ValueError, match="AP, PA"):
        frontal_and_lateral(tiny_radiographs(tiny_body(), views=(View.AP, View.PA)))
    with pytest.raises(ValueError, match="one frontal"):
        frontal_and_lateral(tiny_radiographs(tiny_body(), views=(View.AP,)))
    ap, lateral = tiny_radiographs(tiny_body(), views=(View.RL, View.PA))[::-1]
    assert frontal_and_lateral([lateral, ap]) == (ap, lateral)


@pytest.mark.parametrize("option", [{"num_steps": 0}, {"num_samples": 0}, {"sampler": "euler"}], ids=str)
def test_bad_options_are_refused_by_name(checkpoint: Checkpoint, option: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        reconstruct(tiny_radiographs(tiny_body()), checkpoint, **option)


@pytest.mark.parametrize("kind", ["cone", "fan"])
@pytest.mark.parametrize("moved", [0.0, 300.0])
def test_distances_in_cm_are_told_before_anything_is_computed(checkpoint: Checkpoint, kind: str, moved: float) -> None:
    """Wherever the isocentre lies; parallel rays have no source."""
    for distance, is_told in ((80.0, True), (127.0, True), (129.0, False)):
        geometry = {"source_to_detector_mm": 1.25 * distance, "source_to_isocenter_mm": distance}
        isocenter = (moved, -moved, moved)
        pair = [
            replace(r, geometry=as_kind(replace(r.geometry, **geometry, isocenter_lps=isocenter), kind))
            for r in tiny_radiographs(tiny_body())
        ]
        if is_told:
            with pytest.raises(ValueError, match=rf"AP.test: source_to_isocenter_mm is {distance:g}, .* is it in mm\?"):
                reconstruct(pair, checkpoint, num_steps=1, is_cancelled=lambda: pytest.fail("it was too late"))
        else:
            reconstruct(pair, checkpoint, num_steps=1)
    reconstruct([replace(r, geometry=as_kind(r.geometry, "parallel")) for r in pair], checkpoint, num_steps=1)


def test_the_truth_explains_its_own_radiograph() -> None:
    ct = tiny_body()
    for radiograph in tiny_radiographs(ct):
        score = reproject(ct, radiograph)
        assert score["relative_l2"] < 0.05 and score["ncc"] > 0.998, "16 mm voxels; the radiograph is averaged down to them"
        mirrored = reproject(CtVolume(ct.hu[:, ::-1, ::-1], GRID), radiograph)
        assert mirrored["relative_l2"] > 3 * score["relative_l2"], "a mirrored patient must not fit"


def test_an_xray_of_the_whole_body_is_compared_where_the_volume_is() -> None:
    """An EOS image: what lies above and below the cube says nothing about it."""
    ct = tiny_body()
    depth, height, width = ct.grid.size
    beyond = np.random.default_rng(0).uniform(-1000, 1000, (2, depth, height, width)).astype(np.float32)
    x, y, z = ct.grid.origin_lps
    tall = VolumeGrid((3 * depth, height, width), ct.grid.spacing_mm, (x, y, z - depth * ct.grid.spacing_mm[2]))
    hu = np.concatenate([beyond[0], ct.hu, beyond[1]])
    beam = FanBeam.from_view(
        View.LL, source_to_detector_mm=1300, source_to_isocenter_mm=918, detector_spacing_mm=(3, 4), detector_size=(256, 130)
    )
    line_integral = project(hu_to_mu(torch.from_numpy(hu)), tall, beam).numpy()
    assert reproject(ct, Radiograph(line_integral, beam))["ncc"] > 0.97


def phantom_pair(phantom: LumbarPhantom) -> list[Radiograph]:
    body, pair = phantom.render(phantom.body_grid(4.0)).hu, []
    for view in (View.AP, View.LL):
        beam = ConeBeam.from_view(
            view, source_to_detector_mm=1150, source_to_isocenter_mm=900, detector_spacing_mm=(3, 3), detector_size=(120, 130)
        )
        line_integral = project(hu_to_mu(torch.from_numpy(body.hu)), body.grid, beam).numpy()
        pair.append(Radiograph(line_integral, beam, source=view.value))
    return pair


def test_embedded_checkpoint_keeps_left_and_right_apart() -> None:
    """Laterality with the real model: where a patient and the mirror image differ, the volume must be nearer to the patient."""
    checkpoint, phantom = load_checkpoint(), make_phantom(5)
    truth = phantom.render(checkpoint.grid).hu.hu
    reconstruction = reconstruct(phantom_pair(phantom), checkpoint, num_steps=1)
    assert unexplained(reconstruction.reprojection) == []
    result = reconstruction.volume.hu
    mirrored = truth[:, :, ::-1]
    lopsided = np.abs(truth - mirrored) > 500
    error, mirrored_error = (float(np.abs(result - t)[lopsided].mean()) for t in (truth, mirrored))
    assert lopsided.sum() > 10_000
    assert error < 0.95 * mirrored_error


def test_bone_taken_for_bright_where_it_is_dark_shows_in_the_reprojection() -> None:
    """No header and no check of two views tells it."""
    negatives = [replace(r, line_integral=-r.line_integral) for r in phantom_pair(make_phantom(5))]
    assert check_pair(*negatives) == []
    assert len(unexplained(reconstruct(negatives, load_checkpoint(), num_steps=1).reprojection)) == 2


def test_a_translator_changes_what_the_network_sees_and_is_named() -> None:
    to_drr = replace(tiny_translator(), sha256="5" * 64)
    pair, checkpoint = tiny_radiographs(tiny_body()), tiny_checkpoint()
    plain = reconstruct(pair, checkpoint, num_steps=1)
    styled = reconstruct(pair, checkpoint, num_steps=1, translator=to_drr)
    by_hand = reconstruct([translate(r, to_drr) for r in pair], checkpoint, num_steps=1)
    assert plain.provenance["Style"] == "as they are"
    assert styled.provenance["Style"] == f"real to DRR, translator {'5' * 64}"
    assert "style" in styled.provenance["Assumed"]
    np.testing.assert_array_equal(styled.volume.hu, by_hand.volume.hu)
    assert np.abs(styled.volume.hu - plain.volume.hu).max() > 1
    assert styled.reprojection != by_hand.reprojection, "judged by the X-rays as they were measured"
    with pytest.raises(ValueError, match="translates drr_to_real, accepted is real_to_drr"):
        reconstruct(pair, checkpoint, num_steps=1, translator=tiny_translator("drr_to_real"))
