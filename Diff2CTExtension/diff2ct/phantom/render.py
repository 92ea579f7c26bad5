"""The phantom: all parts drawn from one seed, painted in anatomical order on any grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diff2ct.phantom import bowel, canal, lungs, muscles, organs, pelvis, ribs, screws, vertebra, vessels
from diff2ct.phantom.anatomy import LumbarAnatomy
from diff2ct.phantom.body import HALF_HEIGHT_MM, Body, body_fields, paint_body
from diff2ct.phantom.bowel import Gut
from diff2ct.phantom.canvas import Canvas
from diff2ct.phantom.muscles import Muscles
from diff2ct.phantom.noise import LatticeNoise
from diff2ct.phantom.organs import Abdomen, Organ
from diff2ct.phantom.screws import Hardware, PedicleScrew
from diff2ct.phantom.tubes import Curve
from diff2ct.phantom.vessels import Vessels
from diff2ct.units import HU_WINDOW
from diff2ct.volume import CtVolume, VolumeGrid

_AIR_BORDER_MM = 12.0


@dataclass(frozen=True, eq=False)
class PhantomImage:
    """hu: CT; labels: (D, H, W) uint8, `anatomy.LABELS` (TotalSegmentator's numbers), 0 elsewhere. Implants keep
    the bone's label."""

    hu: CtVolume
    labels: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class LumbarPhantom:
    """One synthetic patient, lying on the back, arms out of the way; L3 is near (0, 0, 0).

    noise_hu: deviation of the CT noise; bias_hu: of its slow drift; blur_mm: width of edges. Everything is a
    function of position, so grids may be cut and shifted freely.
    """

    seed: int
    anatomy: LumbarAnatomy
    body: Body
    muscles: Muscles
    abdomen: Abdomen
    organs: tuple[Organ, ...]
    vessels: Vessels
    ribs: tuple[Curve, ...]
    bowel: tuple[Gut, ...]
    hardware: Hardware
    lung_hu: float
    noise_hu: float
    bias_hu: float
    blur_mm: float

    @property
    def screws(self) -> tuple[PedicleScrew, ...]:
        """All pedicle screws, caudal to cranial, left before right."""
        return self.hardware.screws

    def body_grid(self, spacing_mm: float = 2.0) -> VolumeGrid:
        """Axis-aligned grid over the whole body part: air around it in x and y, cut through the body at both z ends."""
        cx, cy, half_width, front, back = self.body.section(np.linspace(-HALF_HEIGHT_MM, HALF_HEIGHT_MM, 65))
        low = np.array([(cx - half_width).min(), (cy - front).min()]) - _AIR_BORDER_MM
        high = np.array([(cx + half_width).max(), (cy + back).max()]) + _AIR_BORDER_MM
        counts = [
            int(np.ceil((b - a) / spacing_mm)) + 1
            for a, b in zip((*low, -HALF_HEIGHT_MM), (*high, HALF_HEIGHT_MM), strict=True)
        ]
        middle = (float(low[0] + high[0]) / 2, float(low[1] + high[1]) / 2, 0.0)
        return VolumeGrid.centered((counts[2], counts[1], counts[0]), spacing_mm, middle)

    def render(self, grid: VolumeGrid) -> PhantomImage:
        """HU and labels on an axis-aligned grid. Equal positions get equal values on every grid of the same spacing."""
        canvas = Canvas(grid, self.blur_mm)
        fine, medium, coarse = (LatticeNoise(self.seed * 8 + i, mm) for i, mm in enumerate((1.6, 3.2, 14.0)))
        fields = body_fields(canvas, self.body, coarse)
        paint_body(canvas, self.body, fields, medium)
        lungs.paint_lungs(
            canvas, self.anatomy, self.body, self.abdomen.dome, self.lung_hu, self.vessels.vein_hu, fields, coarse, medium
        )
        organs.paint_organs(canvas, self.organs, fields, coarse, medium)
        bowel.paint_bowel(canvas, self.bowel, fields, LatticeNoise(self.seed * 8 + 4, 5.0))
        vessels.paint_vessels(canvas, self.vessels, LatticeNoise(self.seed * 8 + 5, 4.0))
        muscles.paint_muscles(canvas, self.anatomy, self.muscles, fields, coarse, LatticeNoise(self.seed * 8 + 6, 3.5), medium)
        pelvis.paint_ilia(canvas, self.anatomy, medium, self.body.muscle_hu - 8, fields.fascia)
        ribs.paint_ribs(canvas, self.anatomy, list(self.ribs))
        canal.paint_canal(canvas, self.anatomy)
        pelvis.paint_sacrum(canvas, self.anatomy, medium)
        vertebra.paint_spine(canvas, self.anatomy, medium)
        screws.paint_cages(canvas, self.hardware)
        whole = canvas.whole()
        canvas.hu += np.float32(self.noise_hu) * fine(whole.x, whole.y, whole.z)
        canvas.hu += np.float32(self.bias_hu) * coarse(whole.x * 0.2, whole.y * 0.2, whole.z * 0.2)
        screws.paint_hardware(canvas, self.hardware)
        np.clip(canvas.hu, *HU_WINDOW, out=canvas.hu)
        return PhantomImage(CtVolume(canvas.hu, grid), canvas.labels)


def make_phantom(seed: int, *, num_screws: int | None = None) -> LumbarPhantom:
    """Draw one synthetic patient; the same seed gives the same patient, whatever the number of screws.

    num_screws: pedicle screws from S1 to L1, None for a random number from 0 to 10.
    """
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(8)]
    anatomy = LumbarAnatomy.draw(streams[0])
    body = Body.draw(streams[1], anatomy)
    abdomen = Abdomen.draw(streams[3], anatomy, body)
    return LumbarPhantom(
        seed=seed,
        anatomy=anatomy,
        body=body,
        muscles=Muscles.draw(streams[2], anatomy, body),
        abdomen=abdomen,
        organs=organs.draw_organs(streams[3], anatomy, abdomen),
        vessels=Vessels.draw(streams[3], anatomy, abdomen.contrast),
        ribs=tuple(ribs.rib_curves(streams[4], anatomy, body)),
        bowel=bowel.draw_bowel(streams[5], anatomy, body),
        hardware=Hardware.draw(streams[6], anatomy, num_screws),
        lung_hu=float(streams[7].uniform(-870, -740)),
        noise_hu=float(streams[7].uniform(3, 22)),
        bias_hu=float(streams[7].uniform(0, 4)),
        blur_mm=float(streams[7].uniform(0.5, 2.2)),
    )
