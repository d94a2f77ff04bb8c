"""Random augmentation, each image its own.

In memory: crops out of zero-padded images, flips and cutout of whole batches on the device, and
torchvision's colour jitter image by image.
Streamed: torchvision's transforms, image by image, in worker processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from PIL.Image import Image

NUM_DRAWS = 6  # random numbers per image and epoch; see Draws


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of training images; none by default.

    Attributes:
        padding: random crop of the image padded by so many black px on each side.
        flip: random horizontal flip.
        cutout: side (px) of a square of mean colour at a random place, cut off at the borders
            (https://arxiv.org/abs/1708.04552); 0 is none.
        randaugment: operations of torchvision's RandAugment per image; streamed images only.
        color_jitter: most change of brightness, contrast, saturation and hue, as torchvision's
            ColorJitter takes them.
        resized_crop: random area and aspect instead of `padding`; streamed images only.
    """

    padding: int = 0
    flip: bool = False
    cutout: int = 0
    randaugment: int = 0
    color_jitter: tuple[float, ...] | None = None
    resized_crop: bool = False


@dataclass(frozen=True)
class Draws:
    """Random integers in [0, 2**62) of a batch, int64 [B] each, on the CPU."""

    top: Tensor
    left: Tensor
    flip: Tensor
    cutout_row: Tensor
    cutout_column: Tensor
    seed: Tensor  # of torchvision's transforms


def to_device(numbers: Tensor, device: torch.device) -> Tensor:
    """Copy a batch's numbers to the device, without waiting for the work that a GPU has queued.

    They need not be pinned: CUDA takes its own copy of them before the call returns.
    """
    return numbers.to(device, non_blocking=device.type == "cuda")


class RandomCrops:
    """Crops of images by indexing a view of all their windows: one copy, no loop.

    Args:
        padded: uint8 [N, H + 2 padding, W + 2 padding, 3], contiguous.
    """

    def __init__(self, padded: Tensor, padding: int) -> None:
        n, height, width, channels = padded.shape
        self.k = 2 * padding + 1  # shifts per axis: 0 to 2 * padding
        self.shape = (height - 2 * padding, width - 2 * padding, channels)
        per_image, per_row, per_pixel, _ = padded.stride()
        # a window's row is one run of bytes, so the last axis is (column, channel) together
        self.windows = padded.as_strided(
            (n, self.k, self.k, self.shape[0], self.shape[1] * channels),
            (per_image, per_row, per_pixel, per_row, 1),  # windows overlap: no copy
        )

    def __call__(self, rows: Tensor, draws: Draws, flip: bool) -> Tensor:
        """Cut out images `rows`, uint8 [B, H, W, 3], each with its own shift and, if so, flip."""
        device = self.windows.device
        top, left = to_device(draws.top % self.k, device), to_device(draws.left % self.k, device)
        images = self.windows[to_device(rows, device), top, left].view(-1, *self.shape)  # a copy
        if flip:
            mirrored = to_device((draws.flip % 2).nonzero()[:, 0], device)  # on the CPU: no sync
            images[mirrored] = images[mirrored].flip(2)  # along W
        return images


def cut_out(images: Tensor, draws: Draws, size: int) -> Tensor:
    """Zero a `size` x `size` square of each normalised image [B, C, H, W], in place."""
    device, (height, width) = images.device, images.shape[2:]

    def inside(centre: Tensor, length: int) -> Tensor:  # bool [B, length]
        low = to_device(centre % length - size // 2, device)[:, None]
        at = torch.arange(length, device=device)
        return (at >= low) & (at < low + size)

    rows, columns = inside(draws.cutout_row, height), inside(draws.cutout_column, width)
    return images.masked_fill_((rows[:, :, None] & columns[:, None, :])[:, None], 0)  # mean colour


def jitter_colors(images: Tensor, draws: Draws, how: tuple[float, ...]) -> Tensor:
    """Change the colours of each image of uint8 [B, H, W, 3] by torchvision, in place."""
    from torchvision.transforms import v2

    transform = v2.ColorJitter(*how)
    with torch.random.fork_rng(devices=[]):  # it draws from torch's global generator
        for image, seed in zip(images.permute(0, 3, 1, 2), draws.seed.tolist(), strict=True):
            torch.default_generator.manual_seed(seed)
            image.copy_(transform(image))
    return images


def image_transform(how: Augmentation, size: int) -> Callable[[Image], Image]:
    """Build torchvision's transforms of a PIL image; they draw from torch's global generator."""
    from torchvision.transforms import v2

    if how.resized_crop:
        steps: list[nn.Module] = [v2.RandomResizedCrop(size, antialias=True)]
    else:
        steps = [v2.RandomCrop(size, padding=how.padding or None)]
    if how.flip:
        steps.append(v2.RandomHorizontalFlip())
    if how.color_jitter is not None:
        steps.append(v2.ColorJitter(*how.color_jitter))
    if how.randaugment:
        steps.append(v2.RandAugment(num_ops=how.randaugment))
    return v2.Compose(steps)
