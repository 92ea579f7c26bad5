"""Do the edges of an image stay where they are when its style changes? B batch, H x W pixels."""

from __future__ import annotations

import torch
from torch.nn.functional import avg_pool2d


def edge_loss(image: torch.Tensor, styled: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """1 - cosine between the gradient fields of two images, averaged over the batch: 0 for the same edges, 2 for opposite ones.

    A gradient correlation (Penney et al. 1998) of softly normalised gradients g / sqrt(|g|^2 + eta^2), eta the image's mean |g|
    (Haber and Modersitzki 2006), so that a faint cortex counts beside a screw, and gain and offset do not count at all.
    image, styled, valid: (B, 1, H, W). Gradients of which a pixel is not valid are left out.
    """
    for name, other in (("styled", styled), ("valid", valid)):
        if other.shape != image.shape:
            raise ValueError(f"{name}: got shape {tuple(other.shape)}, accepted is that of image, {tuple(image.shape)}")
    inside = (avg_pool2d(valid.float(), 3, stride=1) > 0.999).float()
    first, second = (normalized_gradient(i.float(), inside) for i in (image, styled))
    dot, first_square, second_square = (
        (a * b).flatten(1).sum(1) for a, b in ((first, second), (first, first), (second, second))
    )
    tiny = 1e-8
    return (1 - (dot + tiny) / ((first_square + tiny) * (second_square + tiny)).sqrt()).mean()


def normalized_gradient(image: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """(B, 1, H, W) -> Sobel gradients (B, 2, H - 2, W - 2), softly normalised, 0 where `inside` (B, 1, H - 2, W - 2) is 0."""
    down = image[..., :-2, :] + 2 * image[..., 1:-1, :] + image[..., 2:, :]
    along = image[..., :-2] + 2 * image[..., 1:-1] + image[..., 2:]
    gradient = torch.cat([down[..., 2:] - down[..., :-2], along[..., 2:, :] - along[..., :-2, :]], dim=1) / 8 * inside
    square = gradient.square().sum(1, keepdim=True)
    count = inside.flatten(1).sum(1).clamp_min(1)
    mean = (square.detach() + 1e-20).sqrt().flatten(1).sum(1) / count  # of |g|, no part of what is learnt
    return gradient / (square + mean.square().view(-1, 1, 1, 1) + 1e-12).sqrt()
