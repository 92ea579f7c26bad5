"""The spine's random parameters: which vertebrae there are, how large, and where they sit in the patient.

Sources of the mean values (adults; a random size and per-level scatter are laid over them):
* bodies, canal, processes: Panjabi et al., Spine 1992;17:299 (lumbar) and 1991;16:888 (thoracic).
* pedicles: Zindrick et al., Spine 1987;12:160; Olsewski et al., J Bone Joint Surg Am 1990;72:541.
* body and disc heights: Zhou et al., Eur Spine J 2000;9:242.
* lordosis and sacral slope: Vaz et al., Eur Spine J 2002;11:80; Roussouly et al., Spine 2005;30:346; its share per segment:
  Bernhardt and Bridwell, Spine 1989;14:717.
* facet orientation: Panjabi et al., Spine 1993;18:1298.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diff2ct.phantom.canvas import Pose

LABELS = {"S1": 26, "L5": 27, "L4": 28, "L3": 29, "L2": 30, "L1": 31, "T12": 32, "T11": 33, "T10": 34, "T9": 35, "T8": 36}
"""TotalSegmentator's class numbers (task "total"); S1 stands for the whole sacrum that is drawn below it."""

LEVELS = tuple(name for name in LABELS if name != "S1")
"""Vertebrae from caudal to cranial."""


@dataclass(frozen=True, kw_only=True)
class VertebraSize:
    """Sizes of one vertebra [mm, deg]. Left and right pedicles share them.

    wedge_deg: angle between the endplates, > 0 if the front is taller (lordotic).
    spinous_length: middle of the body to the tip of the spinous process. transverse_width: tip to tip.
    """

    width_upper: float
    width_lower: float
    depth: float
    height: float
    wedge_deg: float
    pedicle_width: float
    pedicle_height: float
    pedicle_angle_deg: float
    canal_width: float
    canal_depth: float
    transverse_width: float
    spinous_length: float
    spinous_tilt_deg: float
    spinous_height: float


@dataclass(frozen=True, kw_only=True)
class SegmentSize:
    """The joint below a vertebra: disc height, half distance and orientation (from the sagittal plane) of its facets."""

    disc_height: float
    facet_half_distance: float
    facet_angle_deg: float


_SIZE_FIELDS = tuple(VertebraSize.__dataclass_fields__)
_MEAN_SIZES = {
    # width up, low, depth, height, wedge, pedicle w, h, angle, canal w, d, transverse, spinous length, tilt, height
    "T8": (29.0, 31.0, 27.5, 19.5, -3.5, 6.7, 12.5, 8.0, 16.5, 15.5, 61.0, 52.0, 50.0, 9.0),
    "T9": (30.5, 32.5, 28.5, 20.0, -3.0, 6.9, 13.5, 7.0, 16.8, 15.5, 60.0, 52.0, 48.0, 9.5),
    "T10": (32.0, 35.0, 29.5, 21.0, -2.5, 7.0, 14.8, 5.0, 17.2, 15.5, 58.0, 53.0, 38.0, 11.0),
    "T11": (35.0, 38.5, 31.0, 22.5, -3.0, 8.0, 16.5, 2.0, 19.0, 16.2, 52.0, 55.0, 28.0, 13.0),
    "T12": (38.5, 41.5, 32.0, 24.5, -3.0, 7.6, 16.3, 1.0, 21.5, 17.5, 48.0, 60.0, 18.0, 16.0),
    "L1": (41.5, 43.5, 33.0, 26.3, -2.5, 8.4, 15.5, 9.0, 23.2, 18.0, 72.0, 66.5, 12.0, 19.0),
    "L2": (43.0, 45.5, 34.0, 27.2, -0.5, 8.9, 15.0, 12.0, 23.8, 17.6, 80.0, 70.0, 10.0, 20.5),
    "L3": (44.5, 47.5, 34.8, 27.8, 1.5, 10.3, 14.9, 14.4, 24.3, 17.5, 89.0, 71.0, 9.0, 20.5),
    "L4": (46.8, 49.5, 35.0, 27.8, 3.0, 12.6, 14.8, 17.7, 25.4, 18.2, 85.0, 69.0, 9.0, 18.5),
    "L5": (48.5, 49.8, 34.6, 27.0, 8.5, 16.5, 14.5, 27.0, 27.1, 18.8, 92.0, 61.0, 14.0, 14.0),
}
_MEAN_SEGMENTS = {
    # disc height, facet half distance, facet angle; of the joint below the vertebra
    "T8": (4.5, 10.5, 75.0),
    "T9": (5.0, 10.5, 75.0),
    "T10": (5.5, 11.0, 75.0),
    "T11": (6.0, 11.5, 70.0),
    "T12": (7.0, 12.5, 25.0),
    "L1": (8.5, 13.0, 27.0),
    "L2": (10.0, 14.0, 30.0),
    "L3": (11.0, 15.5, 37.0),
    "L4": (11.5, 18.0, 46.0),
    "L5": (10.0, 21.0, 52.0),
}
_LORDOSIS_SHARE = {"L5": 0.31, "L4": 0.26, "L3": 0.20, "L2": 0.14, "L1": 0.09}
_KYPHOSIS_DEG = {"T12": 0.0, "T11": -3.0, "T10": -4.0, "T9": -4.5, "T8": -4.5}


@dataclass(frozen=True, kw_only=True, eq=False)
class Vertebra:
    """One vertebra in place. pose: middle of its body, x to its left, y back, z up. concavity_mm: depth of the endplates.

    osteophyte_mm: (upper, lower) rim; waist: how much narrower the body is at mid-height. laminectomy: spinous process removed.
    """

    name: str
    label: int
    size: VertebraSize
    pose: Pose
    waist: float
    concavity_mm: float
    osteophyte_mm: tuple[float, float]
    trabecular_hu: float
    cortical_hu: float
    cortex_mm: float
    laminectomy: bool
    seed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """The joint between two neighbours. pose: middle of the disc.

    facets_lps: (2, 3) joint centres [mm], left and right. facet_normals_lps: (2, 3) unit, from the upper vertebra's process to
    the lower one's (outwards and forwards). degeneration: 0 (young) to 1 (collapsed, vacuum, large facets).
    """

    upper: str
    lower: str
    pose: Pose
    disc_height: float
    wedge_deg: float
    width: float
    depth: float
    degeneration: float
    disc_hu: float
    vacuum: bool
    facets_lps: np.ndarray
    facet_normals_lps: np.ndarray
    seed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class LumbarAnatomy:
    """The bony axis of one patient. vertebrae: caudal to cranial, L5 first. sacrum: middle of S1's body.

    size: overall scale, 1 is the adult mean. lordosis_deg: L1 to S1. cobb_deg: scoliosis.
    """

    female: bool
    size: float
    age: float
    lordosis_deg: float
    sacral_slope_deg: float
    cobb_deg: float
    vertebrae: tuple[Vertebra, ...]
    segments: tuple[Segment, ...]
    sacrum: Pose
    trabecular_hu: float
    cortical_hu: float
    cortex_mm: float

    def vertebra(self, name: str) -> Vertebra:
        """The vertebra called `name`, e.g. "L4"."""
        return next(v for v in self.vertebrae if v.name == name)

    def centre_line(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Heights z [mm], any shape -> x and y of the middle of the column there [mm], float32."""
        down = self.sacrum.to_lps([[0, 14, -70], [0, 6, -30], [0, 0, 0]])
        points = np.concatenate([down, [v.pose.center_lps for v in self.vertebrae]])
        order = np.argsort(points[:, 2])
        x, y = (np.interp(z, points[order, 2], points[order, axis]).astype(np.float32) for axis in (0, 1))
        return x, y

    @classmethod
    def draw(cls, rng: np.random.Generator) -> LumbarAnatomy:
        """A random patient."""
        female = bool(rng.random() < 0.5)
        age = float(rng.uniform(20, 88))
        size = float(np.clip(rng.normal(0.95 if female else 1.05, 0.045), 0.84, 1.17))
        lordosis = float(np.clip(rng.normal(50, 11), 30, 75))
        slope = float(np.clip(0.62 * lordosis + rng.normal(6, 4), 18, 58))
        cobb = float(np.clip(abs(rng.normal(0, 8)), 0, 25)) if rng.random() < 0.5 else float(rng.uniform(0, 4))
        trabecular = float(np.clip(rng.normal(235 - 1.9 * age, 32), 40, 220))
        cortical = float(rng.uniform(850, 1150)) - 2.0 * max(age - 50, 0)
        cortex = float(rng.uniform(0.3, 0.6))
        sizes = {name: _draw_size(rng, name, size) for name in LEVELS}
        _fracture(rng, sizes, trabecular)
        degeneration = {name: _draw_degeneration(rng, name, age) for name in LEVELS}
        joints = {name: _draw_joint(rng, name, size, degeneration[name]) for name in LEVELS}
        angles = _draw_angles(rng, lordosis, slope, cobb)
        poses = _stack(rng, sizes, joints, angles)
        laminectomy = set(rng.permutation(["L2", "L3", "L4", "L5"])[: rng.integers(1, 3)]) if rng.random() < 0.08 else set()
        rims = {name: 5.0 * degeneration[name] * float(rng.uniform(0.3, 1.3)) for name in LEVELS}
        vertebrae = []
        for name in LEVELS:
            above = LEVELS[min(LEVELS.index(name) + 1, len(LEVELS) - 1)]
            vertebrae.append(
                Vertebra(
                    name=name,
                    label=LABELS[name],
                    size=sizes[name],
                    pose=poses[name],
                    waist=float(rng.uniform(0.08, 0.14)),
                    concavity_mm=float(rng.uniform(0.8, 2.2)) + 2.0 * max(90 - trabecular, 0) / 50 * rng.random(),
                    osteophyte_mm=(rims[above], rims[name]),
                    trabecular_hu=trabecular + float(rng.normal(0, 8)),
                    cortical_hu=cortical,
                    cortex_mm=cortex + float(rng.uniform(-0.05, 0.05)),
                    laminectomy=name in laminectomy,
                    seed=int(rng.integers(2**31)),
                )
            )
        segments = tuple(_segment(rng, name, sizes, joints, angles, poses, degeneration[name]) for name in LEVELS)
        return cls(
            female=female,
            size=size,
            age=age,
            lordosis_deg=lordosis,
            sacral_slope_deg=slope,
            cobb_deg=cobb,
            vertebrae=tuple(vertebrae),
            segments=segments,
            sacrum=poses["S1"],
            trabecular_hu=trabecular,
            cortical_hu=cortical,
            cortex_mm=cortex,
        )


def rotation(sagittal_deg: float, coronal_deg: float, axial_deg: float) -> np.ndarray:
    """(3, 3): leans back by `sagittal_deg`, to the left by `coronal_deg`, then turns about the long axis."""
    (ca, cb, cc), (sa, sb, sc) = (f(np.radians([sagittal_deg, coronal_deg, axial_deg])) for f in (np.cos, np.sin))
    about_x = np.array([[1, 0, 0], [0, ca, sa], [0, -sa, ca]])
    about_y = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    about_z = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def _draw_size(rng: np.random.Generator, name: str, size: float) -> VertebraSize:
    mean = dict(zip(_SIZE_FIELDS, _MEAN_SIZES[name], strict=True))
    values = {}
    for field, value in mean.items():
        if field.endswith("_deg"):
            values[field] = value + float(rng.normal(0, 1.5))
        else:
            scatter = {"pedicle_width": 0.10, "transverse_width": 0.07}.get(field, 0.03)
            values[field] = value * size * float(np.clip(rng.normal(1, scatter), 0.75, 1.25))
    return VertebraSize(**values)


def _fracture(rng: np.random.Generator, sizes: dict[str, VertebraSize], trabecular_hu: float) -> None:
    """Sometimes turn one vertebra into an osteoporotic wedge fracture, mostly at the thoracolumbar junction."""
    if rng.random() > (0.25 if trabecular_hu < 90 else 0.03):
        return
    name = str(rng.choice(["T11", "T12", "L1", "L2", "L3", "L4"], p=[0.12, 0.28, 0.32, 0.12, 0.1, 0.06]))
    old, loss = sizes[name], float(rng.uniform(0.12, 0.35))
    wedge = old.wedge_deg - float(np.degrees(np.arctan(loss * old.height / old.depth)))
    sizes[name] = VertebraSize(**{**vars(old), "height": old.height * (1 - loss / 2), "wedge_deg": wedge})


def _draw_degeneration(rng: np.random.Generator, name: str, age: float) -> float:
    level = {"L5": 0.15, "L4": 0.12, "L3": 0.03}.get(name, 0.0)
    return float(np.clip((age - 45) / 80 + level + rng.normal(0, 0.2), 0, 1))


def _draw_joint(rng: np.random.Generator, name: str, size: float, degeneration: float) -> SegmentSize:
    disc, distance, angle = _MEAN_SEGMENTS[name]
    disc = max(disc * size * float(rng.normal(1.05, 0.1)) * (1 - 0.62 * degeneration**1.5), 2.6)
    return SegmentSize(
        disc_height=disc,
        facet_half_distance=distance * size * float(rng.normal(1, 0.04)),
        facet_angle_deg=angle + float(rng.normal(0, 6)),
    )


def _draw_angles(rng: np.random.Generator, lordosis: float, slope: float, cobb: float) -> dict[str, tuple[float, float, float]]:
    """(sagittal, coronal, axial) [deg] of S1 and every vertebra, see `rotation`."""
    side = rng.choice([-1.0, 1.0])
    apex, reach = rng.uniform(2.0, 5.0), rng.uniform(2.0, 3.0)  # in levels above S1
    twist = cobb * rng.uniform(0.2, 0.7)
    pelvis_tilt, turn = rng.normal(0, 1.2), rng.normal(0, 2.0)
    shares = {k: v * rng.uniform(0.85, 1.15) for k, v in _LORDOSIS_SHARE.items()}
    total = sum(shares.values())
    sagittal = -slope
    angles = {"S1": (sagittal, pelvis_tilt, turn)}
    for index, name in enumerate(LEVELS, start=1):
        sagittal += lordosis * shares[name] / total if name in shares else _KYPHOSIS_DEG[name] + rng.normal(0, 1.2)
        s = (index - apex) / reach
        coronal = -side * cobb / 2 * s * np.exp(0.5 - 0.5 * s * s)  # extremes of +-cobb/2 one reach off the apex
        axial = -side * twist * np.exp(-0.5 * s * s)
        angles[name] = (sagittal, pelvis_tilt + coronal, turn + axial)
    return angles


def _stack(
    rng: np.random.Generator,
    sizes: dict[str, VertebraSize],
    joints: dict[str, SegmentSize],
    angles: dict[str, tuple[float, float, float]],
) -> dict[str, Pose]:
    """Vertebrae on top of each other with their discs between; L3 then comes near the isocentre."""
    turns = {name: rotation(*angles[name]) for name in angles}
    up = {name: turn[:, 2] for name, turn in turns.items()}
    half_s1 = sizes["L5"].height * 0.5
    centers = {"S1": np.zeros(3)}
    below, half_below = "S1", half_s1
    for name in LEVELS:
        across = up[below] + up[name]
        half = sizes[name].height / 2
        step = up[below] * half_below + across / np.linalg.norm(across) * joints[name].disc_height + up[name] * half
        centers[name] = centers[below] + step
        below, half_below = name, half
    shift = rng.normal(0, 2.0, 3) - centers["L3"]
    return {name: Pose(turns[name], center + shift) for name, center in centers.items()}


def _segment(
    rng: np.random.Generator,
    name: str,
    sizes: dict[str, VertebraSize],
    joints: dict[str, SegmentSize],
    angles: dict[str, tuple[float, float, float]],
    poses: dict[str, Pose],
    degeneration: float,
) -> Segment:
    below = "S1" if name == "L5" else LEVELS[LEVELS.index(name) - 1]
    size, joint = sizes[name], joints[name]
    low_size = sizes["L5"] if below == "S1" else sizes[below]
    bottom = poses[name].to_lps([0, 0, -size.height / 2])
    top = poses[below].to_lps([0, 0, low_size.height / 2])
    pose = Pose(rotation(*np.mean([angles[name], angles[below]], axis=0)), (bottom + top) / 2)
    behind = size.depth / 2 + (0.80 if name.startswith("L") or name == "T12" else 1.02) * size.canal_depth
    facets, normals = [], []
    for side in (1.0, -1.0):
        gamma = np.radians(joint.facet_angle_deg + rng.normal(0, 3))
        facets.append(pose.to_lps([side * joint.facet_half_distance, behind, -1.5]))
        normals.append(pose.rotation @ [side * np.cos(gamma), -np.sin(gamma), 0.0])
    wedge_below = 0.0 if below == "S1" else low_size.wedge_deg
    return Segment(
        upper=name,
        lower=below,
        pose=pose,
        disc_height=joint.disc_height,
        wedge_deg=angles[name][0] - angles[below][0] - (size.wedge_deg + wedge_below) / 2,
        width=(size.width_lower + low_size.width_upper) / 2,
        depth=(size.depth + low_size.depth) / 2,
        degeneration=degeneration,
        disc_hu=float(rng.uniform(62, 108)),
        vacuum=bool(degeneration > 0.45 and rng.random() < 0.5),
        facets_lps=np.array(facets),
        facet_normals_lps=np.array(normals),
        seed=int(rng.integers(2**31)),
    )
