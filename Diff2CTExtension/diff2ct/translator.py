"""Real X-rays in the style of DRRs, and DRRs in the style of real X-rays: a trained generator and its use on a radiograph.

Letters: H rows, W columns, S rows and columns of the square that the network sees.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from diff2ct.assumptions import WARNED
from diff2ct.networks.memory_format import channels_last
from diff2ct.networks.resnet2d import ResNet2D, ResNet2DConfig
from diff2ct.radiograph import Radiograph
from diff2ct.standardize import location_and_scale, standardize
from diff2ct.weights_file import FileFormat, fill_network, read_weights, write_weights

DIRECTIONS = ("real_to_drr", "drr_to_real")
STYLE_RANGE = 4.0
"""Standardised values are divided by this for the network, whose tanh ends at 1: about what metal reaches."""

TRANSLATOR = FileFormat(
    name="translator",
    marker="diff2ct-translator",
    version=1,
    fields=("network", "direction", "size", "provenance"),
    objects=("network", "provenance"),
)


@dataclass(frozen=True, kw_only=True)
class Translator:
    """network: (B, 1, S, S) -> the same, standardised values over STYLE_RANGE. direction: one of DIRECTIONS.

    size: S, pixels along the longer side of the X-rays it was trained on. provenance: what made it, plain JSON.
    sha256: of the file it came from, "" before it is saved.
    """

    network: ResNet2D
    direction: str
    size: int
    provenance: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""

    def __post_init__(self) -> None:
        check_size(self.size, self.network.config)
        if self.direction not in DIRECTIONS:
            raise ValueError(f"direction: got {self.direction!r}, accepted are {', '.join(DIRECTIONS)}")


def check_size(size: int, config: ResNet2DConfig) -> None:
    """ValueError unless the network of `config` takes squares of `size` pixels."""
    multiple = config.size_multiple
    if not isinstance(size, int) or size % multiple or not 4 * multiple <= size <= 4096:
        raise ValueError(f"size: got {size!r}, accepted are multiples of {multiple} from {4 * multiple} to 4096")


def save_translator(path: str | Path, translator: Translator, *, dtype: torch.dtype = torch.float16) -> None:
    """Write weights as `dtype`; the file appears under its name only when complete."""
    header = {
        "network": asdict(translator.network.config),
        "direction": translator.direction,
        "size": translator.size,
        "provenance": translator.provenance,
    }
    write_weights(path, TRANSLATOR, header, translator.network, dtype)


def load_translator(path: str | Path, *, direction: str | None = None, device: torch.device | str = "cpu") -> Translator:
    """Read and validate a translator; its weights become float32 on `device`.

    direction: what it must translate, None for either. Raises ValueError that names the file and what is wrong with it.
    """
    file = read_weights(path, TRANSLATOR)
    try:
        config = ResNet2DConfig(**file.header["network"])
        check_size(file.header["size"], config)
        with torch.device("meta"):
            network = ResNet2D(config)
        fill_network(path, TRANSLATOR, network, file.tensors)
        network = channels_last(network.to(device)).eval().requires_grad_(False)
        values = {key: file.header[key] for key in ("direction", "size", "provenance")}
        translator = Translator(network=network, sha256=file.sha256, **values)
    except (TypeError, ValueError) as error:
        message = str(error)
        raise ValueError(message if str(path) in message else f"translator: {path} does not validate: {message}") from None
    if direction not in (None, translator.direction):
        raise ValueError(f"translator: {path} translates {translator.direction}, accepted is {direction}")
    return translator


def translate(radiograph: Radiograph, translator: Translator) -> Radiograph:
    """The radiograph in the other style: same pixels, geometry, mask and side of the patient.

    The network sees the X-ray at the size it was trained on. What it changes there is added to the X-ray in the X-ray's own
    gain and offset, so that detail finer than the network's pixels is kept. The values are no measured line integrals any
    more: `scale_known` is false, `assumed` names the "style", and a warning says so.
    """
    image, valid = torch.from_numpy(radiograph.line_integral), torch.from_numpy(radiograph.valid)
    small, small_valid = to_square(image, valid, translator.size)
    seen = network_image(small, small_valid)
    device = next(translator.network.parameters()).device
    with torch.inference_mode():
        styled = translator.network(seen[None, None].to(device).contiguous(memory_format=torch.channels_last))
    change = torch.where(small_valid, styled[0, 0].float().cpu() - seen, 0.0)
    _, sd = location_and_scale(small, small_valid)
    result = image + float(sd) * STYLE_RANGE * from_square(change, (image.shape[0], image.shape[1]))
    name = radiograph.source or "X-ray"
    sentence = f"{name}: style translated ({translator.direction.replace('_', ' ')}); edges may have moved"
    return replace(
        radiograph,
        line_integral=torch.where(valid, result, image).numpy(),
        scale_known=False,
        assumed=(*radiograph.assumed, "style"),
        warnings=(*radiograph.warnings, sentence),
        reasons={**radiograph.reasons, "style": WARNED},
    )


def network_image(image: Tensor, valid: Tensor) -> Tensor:
    """(..., S, S) -> [-1, 1], the same for any gain and offset, 0 where not valid: what the network sees and makes."""
    return (standardize(image, valid) / STYLE_RANGE).clamp(-1.0, 1.0)


def to_square(image: Tensor, valid: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """(H, W) and its mask -> (S, S) and its mask: the longer side becomes `size` pixels, the shorter one is padded, not valid,
    evenly on both sides.

    Averages over the area when it shrinks, bilinear when it grows. The average leaves out invalid pixels; a new pixel is valid
    if more than half of its area was. No pixel leaves its place, so left stays left.
    """
    (top, left), (height, width) = _frame((image.shape[0], image.shape[1]), size)
    both = torch.stack([image * valid, valid.to(image)])[None]
    masked, share = interpolate(both, (height, width), mode="bilinear", align_corners=False, antialias=True)[0]
    square, square_valid = image.new_zeros(size, size), valid.new_zeros(size, size)
    square[top : top + height, left : left + width] = torch.where(share > 1e-3, masked / share.clamp_min(1e-3), 0.0)
    square_valid[top : top + height, left : left + width] = share > 0.5
    return square, square_valid


def from_square(square: Tensor, shape: tuple[int, int]) -> Tensor:
    """(S, S) -> the (H, W) that `to_square` made it of, bilinear."""
    (top, left), (height, width) = _frame(shape, square.shape[0])
    inside = square[None, None, top : top + height, left : left + width]
    return interpolate(inside, shape, mode="bilinear", align_corners=False, antialias=True)[0, 0]


def _frame(shape: tuple[int, int], size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, left), (height, width)) of an image of `shape` in a square of `size`."""
    height, width = (max(1, round(n * size / max(shape))) for n in shape)
    return ((size - height) // 2, (size - width) // 2), (height, width)
