"""The images that a discriminator remembers (Shrivastava et al. 2017; CycleGAN, Zhu et al. 2017, Sec. 4): so that it does not
forget what the generator no longer does wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch


class ImagePool:
    """Up to `capacity` made images (1, S, S); empty at first.

    `tensors` is all that a run has to keep to go on with the same pool: how many there are, and the images.
    """

    def __init__(self, capacity: int, size: int) -> None:
        if capacity < 0:
            raise ValueError(f"capacity: got {capacity}, accepted is 0 (no pool) or more")
        self._count = torch.zeros((), dtype=torch.int64)
        self._images = torch.zeros(capacity, 1, size, size)

    @property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        return {"count": self._count, "images": self._images}

    def exchange(self, made: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor:
        """(B, 1, S, S) -> (B, 1, S, S) to show to the discriminator.

        A pool that is not full keeps each image and hands it back. Then, half of the time, an image takes the place of a random
        one in the pool, which is handed back instead. seeds: one per image, which decides; the same for any B.
        """
        return torch.stack([self._exchange_one(image, seed) for image, seed in zip(made.detach(), seeds, strict=True)])

    def _exchange_one(self, image: torch.Tensor, seed: int) -> torch.Tensor:
        capacity, count = len(self._images), int(self._count)
        if count < capacity:
            self._images[count] = image
            self._count += 1
            return image
        rng = torch.Generator().manual_seed(seed)
        if capacity == 0 or float(torch.rand((), generator=rng)) < 0.5:
            return image
        place = int(torch.randint(capacity, (), generator=rng))
        earlier = self._images[place].to(image, copy=True)
        self._images[place] = image
        return earlier
