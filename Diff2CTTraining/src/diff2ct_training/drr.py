"""A CT -> its AP and lateral radiographs (DRRs), in a standard biplanar geometry. Rendered from the WHOLE scan, as a real
X-ray is."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from diff2ct.geometry import BEAMS, Beam, ConeBeam, View, as_kind
from diff2ct.projector import project
from diff2ct.radiograph import Radiograph
from diff2ct.units import hu_to_mu
from diff2ct.volume import CtVolume


@dataclass(frozen=True, kw_only=True)
class BiplanarSetup:
    """Two X-rays at right angles with the same distances and detector. The defaults are a usual spine stand.

    detector_mm: edge of the square detector, at the detector. pixels: along that edge.
    lateral: LL or RL. beam: "cone", or "fan" as of EOS, or "parallel" rays, the paper's case; they agree with the cone in the
    plane through the isocentre.
    """

    source_to_detector_mm: float = 1020.0
    source_to_isocenter_mm: float = 700.0
    detector_mm: float = 430.0
    pixels: int = 256
    lateral: View = View.LL
    beam: str = "cone"

    def __post_init__(self) -> None:
        if not self.detector_mm > 0:
            raise ValueError(f"detector_mm: got {self.detector_mm}, accepted is a length above 0 mm")
        if self.pixels < 2:
            raise ValueError(f"pixels: got {self.pixels}, accepted is a count of at least 2")
        if not View(self.lateral).is_lateral:
            raise ValueError(f"lateral: got {self.lateral.value}, accepted are LL and RL")
        if self.beam not in BEAMS:
            raise ValueError(f"beam: got {self.beam!r}, accepted are {', '.join(BEAMS)}")

    def describe(self) -> str:
        """All of it in one line of text; two setups that read the same are the same."""
        rays = {"cone": "", "fan": ", scanning fan", "parallel": ", parallel rays"}[self.beam]
        return (
            f"AP and {self.lateral.value}, source to detector {self.source_to_detector_mm:g} mm, to isocentre "
            f"{self.source_to_isocenter_mm:g} mm, detector {self.detector_mm:g} mm, {self.pixels} pixels{rays}"
        )

    def beams(self, isocenter_lps: tuple[float, float, float]) -> tuple[Beam, Beam]:
        """The AP and the lateral beam through `isocenter_lps` [mm]."""
        cones = [
            ConeBeam.from_view(
                view,
                source_to_detector_mm=self.source_to_detector_mm,
                source_to_isocenter_mm=self.source_to_isocenter_mm,
                detector_spacing_mm=(self.detector_mm / self.pixels,) * 2,
                detector_size=(self.pixels, self.pixels),
                isocenter_lps=isocenter_lps,
            )
            for view in (View.AP, self.lateral)
        ]
        first, second = (as_kind(cone, self.beam) for cone in cones)
        return first, second


def render_radiographs(ct: CtVolume, beams: tuple[Beam, Beam], source: str) -> tuple[Radiograph, Radiograph]:
    """Exact, noiseless line integrals of the whole scan along both beams. source: what the radiographs say they come from."""
    mu = hu_to_mu(torch.from_numpy(ct.hu))
    images = [project(mu, ct.grid, beam).numpy() for beam in beams]
    first, second = (
        Radiograph(image, beam, scale_known=True, source=f"{source} {beam.view.value}")
        for image, beam in zip(images, beams, strict=True)
    )
    return first, second
