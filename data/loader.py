"""Batches of (images, labels) on the device: what all loaders share, and the one in memory.

The order and the augmentation of an epoch are a function of the seed and the epoch's number alone:
not of the number of workers, of the device, or of how many processes share the batches.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from data.augment import (
    NUM_DRAWS,
    Augmentation,
    Draws,
    RandomCrops,
    cut_out,
    jitter_colors,
    to_device,
)

Batch = tuple[Tensor, Tensor]
Part = tuple[Tensor, Draws | None]  # of one batch: rows int64 [B], their random numbers
L = TypeVar("L", bound="Loader")


@dataclass(frozen=True)
class BatchSpec:
    """The images that a loader gives, and how.

    Attributes:
        indices: int64 [M], which of `labels` (and of the images) it gives, in order.
        labels: int64 [N].
        batch_size: of all processes together in training, else of this one.
        mean, std: of the images scaled to [0, 1].
        device: where the batches are.
        augmentation: of training batches; None: the images as they are, in order.
        seed: of the order and the augmentation.
        rank, world_size: every training batch is shared out over `world_size` processes; this is
            the one that gets part `rank`. See `Loader.sharded` for evaluation.

    Raises:
        ValueError: a training batch cannot be shared out evenly.
    """

    indices: Tensor
    labels: Tensor
    batch_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device
    augmentation: Augmentation | None = None
    seed: int = 0
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.augmentation is not None and self.batch_size % self.world_size:
            raise ValueError(
                f"--batch-size {self.batch_size} cannot be shared evenly by {self.world_size} "
                f"processes; take a multiple of {self.world_size}"
            )


class Loader:
    """An iterable of (images float [B, 3, H, W] normalised, labels int64 [B]) on `device`.

    With an augmentation it shuffles, augments and drops the last, smaller batch; without, it gives
    every image once, in order, as it is. `state_dict` holds its place between two epochs; an epoch
    counts as begun when its iterator is made.
    """

    def __init__(self, spec: BatchSpec) -> None:
        self.spec = spec
        self.batch_size, self.device = spec.batch_size, spec.device
        self.augmentation, self.seed = spec.augmentation, spec.seed
        self.labels = spec.labels.to(spec.device)
        mean, std = (torch.tensor(x, device=spec.device) for x in (spec.mean, spec.std))  # [3]
        self.scale, self.shift = 1 / (255 * std), -mean / std  # (x / 255 - mean) / std
        self.epoch = 0  # epochs begun

    @property
    def num_images(self) -> int:
        return len(self.spec.indices)

    def __len__(self) -> int:
        if self.augmentation is not None:
            return self.num_images // self.batch_size
        return -(-self.num_images // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        self.epoch += 1
        return self._batches(self.epoch - 1)

    def _batches(self, epoch: int) -> Iterator[Batch]:
        plan, ahead = itertools.tee(self.plan(epoch))  # `pixels` may run ahead of the loop
        for (rows, draws), pixels in zip(plan, self.pixels(ahead), strict=True):
            images = self._normalise(pixels)
            if draws is not None and self.augmentation is not None and self.augmentation.cutout:
                cut_out(images, draws, self.augmentation.cutout)
            yield images, self.labels[to_device(rows, self.device)]

    def _normalise(self, pixels: Tensor) -> Tensor:
        """Normalise uint8 [B, H, W, 3] to channels-last float [B, 3, H, W]; no transpose."""
        b, h, w, c = pixels.shape
        rows = pixels.reshape(b, h, w * c).float()  # [B, H, W * 3]
        rows = rows.mul_(self.scale.repeat(w)).add_(self.shift.repeat(w))
        return rows.view(b, h, w, c).permute(0, 3, 1, 2)

    def plan(self, epoch: int) -> Iterator[Part]:
        """Yield for each batch the images that this process gives, and their random numbers."""
        indices, rank, world_size = self.spec.indices, self.spec.rank, self.spec.world_size
        if self.augmentation is None:
            for rows in indices.split(self.batch_size):
                yield rows, None
            return
        words = np.random.SeedSequence([self.seed, epoch]).generate_state(2)
        generator = torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
        order = torch.randperm(self.num_images, generator=generator)  # the same on all ranks
        part = self.batch_size // world_size  # images per rank
        mine = slice(rank * part, (rank + 1) * part)
        for i in range(len(self)):  # every process draws for the whole batch: the same numbers
            numbers = torch.randint(2**62, (NUM_DRAWS, self.batch_size), generator=generator)
            rows = order[i * self.batch_size : (i + 1) * self.batch_size]
            yield indices[rows[mine]], Draws(*numbers[:, mine])

    def pixels(self, plan: Iterator[Part]) -> Iterator[Tensor]:
        """Yield uint8 [B, H, W, 3] on the device for each batch of a plan."""
        raise NotImplementedError

    def sharded(self: L, rank: int, world_size: int) -> L:
        """The part of an evaluation loader that process `rank` looks at: each image is in one."""
        assert self.augmentation is None
        part = copy.copy(self)
        part.spec = replace(self.spec, indices=self.spec.indices[rank::world_size])
        return part

    def state_dict(self) -> dict[str, int]:
        return {"seed": self.seed, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.seed, self.epoch = state["seed"], state["epoch"]


class MemoryLoader(Loader):
    """Images that are all on the device, augmented there in whole batches.

    Args:
        padded: uint8 [N, H + 2 padding, W + 2 padding, 3] on the device; loaders may share it.
        padding: px of black on each side of an image; the augmentation crops out of all of it.
    """

    def __init__(self, padded: Tensor, padding: int, spec: BatchSpec) -> None:
        super().__init__(spec)
        self.crops = RandomCrops(padded, padding)
        height, width, _ = self.crops.shape
        self.images = padded[:, padding : padding + height, padding : padding + width]  # a view

    def pixels(self, plan: Iterator[Part]) -> Iterator[Tensor]:
        how = self.augmentation or Augmentation()
        for rows, draws in plan:
            if draws is None or not (how.padding or how.flip):
                images = self.images[to_device(rows, self.device)]
            else:
                images = self.crops(rows, draws, how.flip)
            if draws is not None and how.color_jitter is not None:
                jitter_colors(images, draws, how.color_jitter)
            yield images


def pad(images: Tensor, padding: int, device: torch.device) -> Tensor:
    """Copy uint8 [N, H, W, 3] to the device, into the middle of black images.

    Returns:
        uint8 [N, H + 2 padding, W + 2 padding, 3].
    """
    n, height, width, c = images.shape
    shape = (n, height + 2 * padding, width + 2 * padding, c)
    padded = torch.zeros(shape, dtype=torch.uint8, device=device)
    inner = padded[:, padding : padding + height, padding : padding + width]
    for target, part in zip(inner.split(4096), images.split(4096), strict=True):
        target.copy_(part)
    return padded
