"""The volumes that may be written beside a reconstruction, each on its grid: how sure it is, voxel by voxel. Needs no torch."""

from __future__ import annotations

from collections.abc import Collection

MAPS = {
    "sd": "standard deviation of the samples [HU]",
    "error": "root mean square error to be expected [HU]",
    "lower": "lower end of the interval that holds the truth [HU]",
    "upper": "upper end of that interval [HU]",
    "support": "share of what varies between patients that the X-rays settle, 0 to 1",
}
"""Name -> what the values are; `Reconstruction.map` makes them."""
DEFAULT_LEVEL = MAX_LEVEL = 0.9
"""Share of body voxels whose truth lies between lower and upper."""


def available_maps(*, num_samples: int, calibrated: bool) -> tuple[str, ...]:
    """The names that such a reconstruction has."""
    return tuple(name for name in MAPS if (num_samples > 1 if name == "sd" else calibrated))


def check_maps(wanted: Collection[str], *, num_samples: int, calibrated: bool, level: float = DEFAULT_LEVEL) -> None:
    """ValueError that names the first of `wanted` that such a reconstruction cannot have; to be asked before the work."""
    for name in wanted:
        if name not in MAPS:
            raise ValueError(f"map: got {name!r}, accepted are {', '.join(MAPS)}")
        if name == "sd" and num_samples < 2:
            raise ValueError(f"map sd: got samples = {num_samples}, accepted with 2 samples or more")
        if name != "sd" and not calibrated:
            raise ValueError(
                f"map {name}: accepted with a calibrated checkpoint only; `diff2ct calibrate` makes the calibration"
            )
    if not 0 < level <= MAX_LEVEL:
        raise ValueError(f"level: got {level}, accepted is above 0 and up to {MAX_LEVEL}")
