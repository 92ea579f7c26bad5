"""What the panel remembers, typed and saved with the scene. Diff2CT.ui names these fields as SlicerParameterName."""

import enum
from typing import Annotated

from slicer import vtkMRMLLinearTransformNode, vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

DEFAULT_SAMPLES = 4
"""As on the command line: the mean of four is nearer to the CT than any one, and their spread is seen."""


class PreviewMode(enum.Enum):
    """How an X-ray and the DRR of a CT are shown together."""

    BLEND = "blend"
    CHECKERBOARD = "checkerboard"
    EDGES = "edges"
    DIFFERENCE = "difference"

    def label(self):
        return {
            PreviewMode.BLEND: _("Blend"),
            PreviewMode.CHECKERBOARD: _("Checkerboard"),
            PreviewMode.EDGES: _("Edges of the CT"),
            PreviewMode.DIFFERENCE: _("Difference"),
        }[self]


class Device(enum.Enum):
    """Where the network runs; the values are torch's names."""

    AUTO = "auto"
    CUDA = "cuda"
    MPS = "mps"
    CPU = "cpu"

    def label(self):
        return {
            Device.AUTO: _("Automatic"),
            Device.CUDA: _("NVIDIA GPU (CUDA)"),
            Device.MPS: _("Apple GPU (MPS)"),
            Device.CPU: _("Processor (CPU)"),
        }[self]


class Consistency(enum.Enum):
    """Whether the volume is moved toward the X-rays; AUTO is where that was measured to help."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"

    def label(self):
        return {Consistency.AUTO: _("Automatic"), Consistency.ON: _("On"), Consistency.OFF: _("Off")}[self]

    def option(self):
        """As the core takes it."""
        return {Consistency.AUTO: None, Consistency.ON: True, Consistency.OFF: False}[self]


class HuPreset(enum.Enum):
    """Window and level [HU] of all compared views."""

    BONE = (1500.0, 300.0)
    SOFT_TISSUE = (400.0, 40.0)
    LUNG = (1400.0, -500.0)
    FULL = (5096.0, 1548.0)

    def label(self):
        return {
            HuPreset.BONE: _("Bone"),
            HuPreset.SOFT_TISSUE: _("Soft tissue"),
            HuPreset.LUNG: _("Lung"),
            HuPreset.FULL: _("Full range"),
        }[self]


class Overlay(enum.Enum):
    """What lies over the reconstruction."""

    NONE = "none"
    DIFFERENCE = "difference"
    UNCERTAINTY = "uncertainty"
    ERROR = "error"
    SUPPORT = "support"

    def label(self):
        return {
            Overlay.NONE: _("None"),
            Overlay.DIFFERENCE: _("Difference from the CT"),
            Overlay.UNCERTAINTY: _("Standard deviation"),
            Overlay.ERROR: _("Expected error"),
            Overlay.SUPPORT: _("Settled by the X-rays"),
        }[self]


@parameterNodeWrapper
class Diff2CTParameterNode:
    apNode: vtkMRMLScalarVolumeNode
    lateralNode: vtkMRMLScalarVolumeNode

    previewNode: vtkMRMLScalarVolumeNode
    poseNode: vtkMRMLLinearTransformNode
    previewMode: PreviewMode = PreviewMode.BLEND
    blend: Annotated[float, WithinRange(0, 100)] = 50
    shownIn3D: bool = True

    checkpoint: str = ""  # path of a .safetensors file, empty for the embedded one
    checkpointFolder: str = ""
    translator: str = ""  # path of a .safetensors file, empty for X-rays as they are
    device: Device = Device.AUTO
    steps: Annotated[int, WithinRange(0, 1000)] = 0  # 0 is the default of the core, which fits the embedded checkpoint
    samples: Annotated[int, WithinRange(1, 64)] = DEFAULT_SAMPLES
    consistency: Consistency = Consistency.AUTO
    seed: Annotated[int, WithinRange(0, 999999)] = 0

    reconstructionNode: vtkMRMLScalarVolumeNode
    truthNode: vtkMRMLScalarVolumeNode
    huPreset: HuPreset = HuPreset.BONE
    overlay: Overlay = Overlay.NONE
    overlayOpacity: Annotated[float, WithinRange(0, 100)] = 60
    boneIn3D: bool = False
