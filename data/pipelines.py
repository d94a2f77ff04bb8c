"""The two pipelines: images decoded once and kept in memory, or decoded anew in every epoch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from config_file.arg_config.data_config import DataConfig
from data.cache import decode
from data.datasets import Color, RawData
from data.images import ImageFiles, Images, fit
from data.loader import BatchSpec, Loader, MemoryLoader, pad
from data.streaming import StreamingLoader
from utils.preprocessing import SMALL, short_side

MEMORY_LIMIT = 4 * 2**30  # bytes of decoded images; a constant, so that no result depends on RAM


class Parts(NamedTuple):
    """A dataset's images as loaders take them: arrays, or images to be streamed.

    Attributes:
        resize: px that the short side of an image has before its centre is cropped.
    """

    train: Images
    test: Images
    mean_std: tuple[Color, Color]
    resize: int


def resize(images: np.ndarray, size: int) -> Tensor:
    """Resize uint8 [N, H, W, 3] to [N, size, size, 3]."""
    if images.shape[1:3] == (size, size):
        return torch.from_numpy(np.ascontiguousarray(images))
    resized = torch.empty((len(images), size, size, 3), dtype=torch.uint8)
    for start in range(0, len(images), 1000):  # float copies of all at once would be 4 times as big
        part = torch.from_numpy(images[start : start + 1000]).permute(0, 3, 1, 2).float()
        part = F.interpolate(part, (size, size), mode="bilinear", antialias=True)
        resized[start : start + 1000] = part.round().clamp(0, 255).permute(0, 2, 3, 1)
    return resized


def choose_pipeline(raw: RawData, size: int, randaugment: int, wanted: str) -> str:
    """Choose `memory` for what fits decoded, `streaming` for the rest and what only it can do.

    Files (and fake images) above 64 px are streamed, as their usual augmentation, random crops of
    random area, needs the whole image.

    Raises:
        ValueError: memory is asked for, where it cannot be.
    """
    number = len(raw.train_images) + len(raw.test_images)
    needed = number * 3 * size**2  # bytes of uint8
    if wanted == "memory":
        if randaugment:
            raise ValueError(
                "--randaugment is done image by image and needs --data-pipeline streaming or auto"
            )
        if needed > MEMORY_LIMIT:
            raise ValueError(
                f"--data-pipeline memory: {number:,} images of {size} px are "
                f"{needed / 2**30:.1f} GiB, the limit is {MEMORY_LIMIT // 2**30}; use streaming"
            )
    if wanted != "auto":
        return wanted
    large_files = not isinstance(raw.train_images, np.ndarray) and size > SMALL
    return "streaming" if randaugment or large_files or needed > MEMORY_LIMIT else "memory"


def prepare(
    raw: RawData, size: int, pipeline: str, num_workers: int, cache_dir: Path | None
) -> Parts:
    """Decode what is small or goes to memory, verify the rest; both once, see data/cache.py.

    Raises:
        ValueError: files that are no images.
    """
    images, others, resized = raw.train_images, raw.test_images, short_side(size)
    if isinstance(images, ImageFiles) and isinstance(others, ImageFiles):
        keep = size <= SMALL or pipeline == "memory"
        train, test = (decode(x, size, keep, num_workers, cache_dir) for x in (images, others))
        mean_std = raw.mean_std or train.mean_std()  # of the train part alone
        if train.pixels is None or test.pixels is None:
            return Parts(images, others, mean_std, resized)
        return Parts(train.pixels, test.pixels, mean_std, resized)
    assert raw.mean_std is not None
    if pipeline == "memory":
        if isinstance(others, np.ndarray):
            resized = size  # `resize` takes arrays whole
        return Parts(as_array(images, size), as_array(others, size), raw.mean_std, resized)
    return Parts(images, others, raw.mean_std, resized)


def as_array(images: Images, size: int) -> np.ndarray:
    """Decode images to uint8 [N, size, size, 3]; an array stays what it is."""
    if isinstance(images, np.ndarray):
        return images
    return np.stack([np.asarray(fit(images[i], size)) for i in range(len(images))])


def loaders_of(
    images: Images, padding: int, pipeline: str, data: DataConfig, device: torch.device
) -> Callable[[BatchSpec], Loader]:
    """Prepare images of one part for loaders, which the result makes."""
    if pipeline == "streaming":
        return partial(StreamingLoader, images, data.input_size, data.num_workers)
    assert isinstance(images, np.ndarray)
    return partial(MemoryLoader, pad(resize(images, data.input_size), padding, device), padding)
