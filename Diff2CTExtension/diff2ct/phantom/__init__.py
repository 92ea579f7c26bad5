"""Synthetic lumbar CTs: spine, trunk, organs and pedicle screws, drawn from a seed. numpy only.

>>> from diff2ct.volume import VolumeGrid
>>> image = make_phantom(1, num_screws=4).render(VolumeGrid.centered(32, 8.0))
>>> image.hu.hu.shape
(32, 32, 32)
"""

from diff2ct.phantom.anatomy import LABELS, LumbarAnatomy
from diff2ct.phantom.render import LumbarPhantom, PhantomImage, make_phantom
from diff2ct.phantom.screws import PedicleScrew

__all__ = ["LABELS", "LumbarAnatomy", "LumbarPhantom", "PedicleScrew", "PhantomImage", "make_phantom"]
