"""A body of balls is X-rayed where a known pose moves it, then registered from where it lies."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from diff2ct import registration
from diff2ct.diffusion import Cancelled
from diff2ct.geometry import Beam, ConeBeam, View, as_kind
from diff2ct.projector import project
from diff2ct.radiograph import Radiograph
from diff2ct.registration import Registration, register, rotation
from diff2ct.units import hu_to_mu
from diff2ct.volume import CtVolume, VolumeGrid

ISOCENTER = (12.0, -150.0, 430.0)
CORNERS = 50.0 * np.array(list(itertools.product((-1, 1), repeat=3))) + ISOCENTER


def body(seed: int = 0, *, size: int = 40) -> CtVolume:
    """A cylinder with balls of bone in it, on voxels of 5 mm."""
    grid = VolumeGrid.centered(size, 5.0, ISOCENTER)
    rng, (z, y, x) = np.random.default_rng(seed), (np.indices(grid.size) - (size - 1) / 2) * 5.0
    hu = np.where(x**2 / 80**2 + y**2 / 60**2 < 1, 0.0, -1000.0)
    for _ball in range(25):
        middle, radius = rng.uniform((-55, -40, -90), (55, 40, 90)), rng.uniform(8, 18)
        at = np.sqrt((x - middle[0]) ** 2 + (y - middle[1]) ** 2 + (z - middle[2]) ** 2)
        hu += rng.uniform(300, 900) / (1 + np.exp((at - radius) / 2))
    return CtVolume(hu, grid)


def pose_of(shift: Sequence[float], turn_deg: Sequence[float]) -> np.ndarray:
    """Turn about the isocentre, then shift."""
    turn, center = rotation(np.radians(turn_deg)), np.array(ISOCENTER)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, center + shift - turn @ center
    return pose


POSE, NEAR = pose_of((14.0, -9.0, 21.0), (4.0, -3.0, 5.0)), pose_of((9.0, -5.0, 16.0), (2.0, -2.0, 3.0))


def beams(views: Sequence[View] = (View.AP, View.LL), kind: str = "cone") -> list[Beam]:
    facts = {"detector_spacing_mm": (5.0, 5.0), "detector_size": (72, 64), "isocenter_lps": ISOCENTER}
    distances = {"source_to_detector_mm": 1100.0, "source_to_isocenter_mm": 850.0}
    return [as_kind(ConeBeam.from_view(view, **distances, **facts), kind) for view in views]


def xrays(ct: CtVolume, pose: np.ndarray = POSE, along: Sequence[Beam] | None = None) -> list[Radiograph]:
    mu, moved = hu_to_mu(torch.from_numpy(ct.hu)), torch.from_numpy(pose)
    images = [(project(mu, ct.grid, beam, pose=moved).numpy(), beam) for beam in along or beams()]
    return [Radiograph(image, beam, scale_known=True, source=beam.view.value) for image, beam in images]


def error_mm(found: Registration, pose: np.ndarray = POSE) -> float:
    points = np.concatenate([CORNERS, np.ones((8, 1))], axis=1)
    return float(np.linalg.norm((points @ (found.pose_lps - pose).T)[:, :3], axis=1).mean())


@pytest.fixture(scope="module")
def ct() -> CtVolume:
    return body()


@pytest.mark.parametrize(
    ("views", "kind"),
    [((View.AP, View.LL), "cone"), ((View.PA, View.RL), "cone"), ((View.AP, View.RL), "fan"), ((View.PA, View.LL), "parallel")],
)
def test_the_pose_is_found(ct: CtVolume, views: Sequence[View], kind: str) -> None:
    found = register(ct, xrays(ct, along=beams(views, kind)))
    assert error_mm(found) < 0.2  # of 29 mm
    assert max(found.before) < 0.5 and min(found.after) > 0.98


def test_neither_gain_nor_processing_nor_noise_of_a_detector_matters(ct: CtVolume) -> None:
    rng = np.random.default_rng(1)
    films = []
    for xray in xrays(ct):
        share = xray.line_integral / xray.line_integral.max()
        image = 900 * share**0.6 + np.linspace(0, 200, share.shape[1]) + rng.normal(0, 10, share.shape)
        films.append(replace(xray, line_integral=image.astype(np.float32), scale_known=False))
    assert error_mm(register(ct, films, start_lps=NEAR, search=False)) < 1.0


def test_a_ct_of_a_part_of_what_the_xrays_show(ct: CtVolume) -> None:
    kept = slice(9, 29)
    origin = tuple((ct.grid.ijk_to_lps @ [0, 0, kept.start, 1])[:3])
    part = CtVolume(ct.hu[kept], replace(ct.grid, size=(20, *ct.grid.size[1:]), origin_lps=origin))
    assert error_mm(register(part, xrays(ct))) < 1.0


def test_xrays_of_a_part_of_the_ct(ct: CtVolume) -> None:
    """Collimated: outside, nothing is known."""
    collimated = []
    for xray in xrays(ct):
        valid = np.zeros(xray.line_integral.shape, bool)
        valid[20:56, 16:48] = True
        image = np.where(valid, xray.line_integral, 50.0).astype(np.float32)
        collimated.append(replace(xray, line_integral=image, valid=valid))
    assert error_mm(register(ct, collimated)) < 0.5


def test_a_ct_from_anywhere_is_found(ct: CtVolume) -> None:
    """In coordinates of its own, as CTs are: no ray meets it."""
    far = CtVolume(ct.hu, replace(ct.grid, origin_lps=(-4000.0, 300.0, -900.0)))
    away = np.eye(4)
    away[:3, 3] = np.subtract(ct.grid.origin_lps, far.grid.origin_lps)
    found = register(far, xrays(ct))
    assert error_mm(found, POSE @ away) < 0.3 and np.isnan(found.before).all()


def test_the_start_counts(ct: CtVolume) -> None:
    """Upside down, so that no search from where the CT lies would end there."""
    pose, start = pose_of((0, 0, 0), (150.0, 0, 0)), pose_of((8.0, 5.0, -12.0), (143.0, 0, 0))
    assert error_mm(register(ct, xrays(ct, pose), start_lps=start), pose) < 0.3


def test_without_search_the_nearest_place_is_taken(ct: CtVolume) -> None:
    far = pose_of((0, 0, 60.0), (0, 0, 0))
    assert error_mm(register(ct, xrays(ct), start_lps=NEAR, search=False)) < 0.2
    assert error_mm(register(ct, xrays(ct, far), search=False), far) > 5


def test_what_fits_already_stays(ct: CtVolume) -> None:
    found = register(ct, xrays(ct), start_lps=POSE)
    assert error_mm(found) < 0.1 and found.before[0] > 0.99


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """One level of detail: enough to see whether the place is the right one."""
    monkeypatch.setattr(registration, "LEVELS_MM", (5.0,))


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("side", [slice(None, 9), slice(29, None)])
def test_padding_is_no_air(ct: CtVolume, side: slice) -> None:
    """Slices that a program added hide where the CT was cut, and there is an edge in its DRR that no X-ray has."""
    hu = ct.hu.copy()
    hu[side] = -3024.0
    found = register(CtVolume(hu, ct.grid), xrays(ct), start_lps=NEAR, search=False)
    assert error_mm(found) < 1.0


@pytest.mark.usefixtures("coarse")
def test_a_picture_may_lie_on_its_side(ct: CtVolume) -> None:
    """Heights then run along its rows: 45 mm are more than is found without a search."""
    pose, (beam,) = pose_of((0.0, 0.0, 45.0), (0.0, 0.0, 0.0)), beams((View.AP,))
    lying = replace(beam, roll_deg=90.0, detector_size=beam.detector_size[::-1], principal_point=None)
    off = register(ct, xrays(ct, pose, [lying])).pose_lps[:3, 3] - pose[:3, 3]
    assert abs(off[0]) < 1.0 and abs(off[2]) < 1.0  # across the rays


@pytest.mark.usefixtures("coarse")
def test_what_no_xray_shows_is_left_as_it_is(ct: CtVolume) -> None:
    """Parallel rays do not tell at all how far along them the CT is."""
    pose = pose_of((3.0, 0.0, 4.0), (0.0, 0.0, 0.0))
    found = register(ct, xrays(ct, pose, beams((View.AP,), "parallel")), search=False)
    assert error_mm(found, pose) < 1.0


def test_one_xray_tells_all_but_the_distance(ct: CtVolume) -> None:
    found = register(ct, xrays(ct)[:1])
    points = np.concatenate([CORNERS, np.ones((8, 1))], axis=1)
    off = np.abs((points @ (found.pose_lps - POSE).T)[:, :3]).mean(axis=0)
    assert off[0] < 1.0 and off[2] < 1.0  # across the rays


def test_it_can_be_stopped(ct: CtVolume) -> None:
    asked: list[int] = []
    with pytest.raises(Cancelled):
        register(ct, xrays(ct), is_cancelled=lambda: asked.append(1) is None and len(asked) > 20)
    assert len(asked) == 21


@pytest.mark.parametrize(("views", "search"), [((View.AP, View.LL), True), ((View.AP, View.LL), False), ((View.AP,), True)])
def test_progress_is_the_share_of_the_work(
    ct: CtVolume, monkeypatch: pytest.MonkeyPatch, views: Sequence[View], search: bool
) -> None:
    """Nearly all the time goes into DRRs, and one costs about as much as it has pixels."""
    pixels, told = [0], []
    films = xrays(ct, along=beams(views))

    def counted(*args, **options):  # type: ignore[no-untyped-def]
        image = project(*args, **options)
        pixels[0] += image.numel()
        return image

    monkeypatch.setattr(registration, "project", counted)
    register(ct, films, start_lps=NEAR, search=search, on_progress=lambda share: told.append((share, pixels[0])))
    shares, done = np.array(told).T
    assert (np.diff(shares) >= 0).all() and 0 < shares[0] < 0.1 and shares[-2] < shares[-1] == 1.0
    assert np.diff(shares).max() < 0.15 and np.abs(shares - done / done[-1]).max() < 0.2


def test_nothing_is_done_before_the_end(ct: CtVolume, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where more is computed than was expected, and where all of it has come to nothing."""
    monkeypatch.setattr(registration, "_USUAL_ITERATIONS", (0, 0, 0))
    told: list[float] = []
    register(ct, xrays(ct), start_lps=NEAR, search=False, on_progress=told.append)
    assert told[-1] == 1.0 and max(told[:-1]) < 1.0
    told.clear()
    with pytest.raises(ValueError, match="nothing in common"):
        register(CtVolume(np.full_like(ct.hu, -1000.0), ct.grid), xrays(ct), search=False, on_progress=told.append)
    assert told and max(told) < 1.0


def test_each_level_has_its_usual_iterations(ct: CtVolume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "_USUAL_ITERATIONS", (6, 2))
    with pytest.raises(ValueError, match="zip"):
        register(ct, xrays(ct), search=False)


def test_what_cannot_be_compared_is_refused(ct: CtVolume) -> None:
    pair = xrays(ct)
    with pytest.raises(ValueError, match="radiographs: got none"):
        register(ct, [])
    with pytest.raises(ValueError, match=r"start_lps: got shape \(3, 3\), accepted is \(4, 4\)"):
        register(ct, pair, start_lps=np.eye(3))
    sheared, moved_away = np.eye(4), np.eye(4)
    sheared[0, 1], moved_away[0, 3] = 0.2, np.nan
    for pose in (sheared, moved_away, np.diag([1.0, 1.0, 1.1, 1.0]), np.diag([-1.0, 1.0, 1.0, 1.0]), np.ones((4, 4))):
        with pytest.raises(ValueError, match=r"start_lps: .*accepted is a rigid one"):
            register(ct, pair, start_lps=pose)
    hidden = np.zeros(pair[1].valid.shape, bool)
    hidden[30:34, 30:34] = True
    flat = replace(pair[1], valid=hidden)
    with pytest.raises(ValueError, match="radiographs: the LL X-ray shows too little"):
        register(ct, [pair[0], flat])
    with pytest.raises(ValueError, match="ct: its DRRs and the X-rays show nothing in common"):
        register(CtVolume(np.full_like(ct.hu, -1000.0), ct.grid), pair)


@pytest.mark.usefixtures("coarse")
def test_another_place_that_fits_nearly_as_well_is_told(ct: CtVolume) -> None:
    """Vertebrae that are all alike: one higher is the same but for the ends."""
    z = (np.arange(40) - 19.5) * 5.0
    hu = np.where(ct.hu > -900, 0.0, -1000.0)
    hu[:, 12:20, 14:26] += 500 * (np.abs((z + 12.5) % 25 - 12.5) < 7.5)[:, None, None]
    alike = CtVolume(
        hu[6:34], replace(ct.grid, size=(28, 40, 40), origin_lps=(*ct.grid.origin_lps[:2], ct.grid.origin_lps[2] + 30))
    )
    shift = pose_of((0.0, 0.0, 8.0), (0.0, 0.0, 0.0))
    assert register(alike, xrays(CtVolume(hu, ct.grid), shift)).rival > 0.9
    assert register(ct, xrays(ct)).rival < 0.9


@pytest.mark.parametrize("axis", range(3))
def test_turns_are_right_handed(axis: int) -> None:
    vector = np.zeros(3)
    vector[axis] = np.pi / 2
    assert np.allclose(rotation(vector) @ np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3])
