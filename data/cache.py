"""Image files, decoded and verified once.

The cache of a list of files is a folder `images.npy` (uint8 [N, size, size, 3], only where the
pixels are wanted) and `statistics.npy` (float64 [N, 2, 3]: each image's mean and mean square per
channel, in [0, 1]). It is built under another name and renamed when it is complete, so a reader
finds all of it or nothing. A lock lets one process build while others wait for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from data.images import ImageFiles, fit
from utils.files import atomic_folder, locked
from utils.run_folder import progress_bar

FORMAT = 1  # part of the key
FOLDER = ".oneshot_nas_cache"  # in the data path; hidden, so that it is no class
BLOCK_BYTES = 2**24  # decoded at a time


@dataclass(frozen=True)
class Decoded:
    pixels: np.ndarray | None  # uint8 [N, size, size, 3], memory-mapped
    statistics: np.ndarray  # float64 [N, 2, 3]

    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of all pixels, per channel."""
        mean, square = self.statistics.mean(0)
        std = np.sqrt(np.maximum(square - mean**2, 1e-12)).clip(1 / 255)  # images of one colour
        return tuple(map(float, mean)), tuple(map(float, std))


class Blocks(Dataset):
    """Blocks of decoded images, for worker processes: (pixels or None, statistics, errors)."""

    def __init__(self, images: ImageFiles, size: int, pixels: bool) -> None:
        self.images, self.size, self.pixels = images, size, pixels
        self.block = max(1, min(512, BLOCK_BYTES // (3 * size * size)))  # images per block

    def __len__(self) -> int:
        return -(-len(self.images) // self.block)

    def __getitem__(self, i: int) -> tuple[np.ndarray | None, np.ndarray, list[str]]:
        rows = range(i * self.block, min((i + 1) * self.block, len(self.images)))
        block = np.zeros((len(rows), self.size, self.size, 3), np.uint8)  # stays black on an error
        errors = []
        for k, row in enumerate(rows):
            try:
                block[k] = np.asarray(fit(self.images[row], self.size))
            except ValueError as error:
                errors.append(str(error))
        x = block.reshape(len(rows), -1, 3) / 255  # [b, size * size, 3]
        statistics = np.stack([x.mean(1), (x**2).mean(1)], 1)  # [b, 2, 3]
        return block if self.pixels else None, statistics, errors


def _key(images: ImageFiles, size: int, pixels: bool) -> str:
    """A name that changes with the list of files, with a file's size or time, with the format."""
    digest = hashlib.sha256(json.dumps([FORMAT, size, pixels]).encode())
    for name in images.names:
        stat = os.stat(images.root / name)
        digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode(errors="replace"))
    return f"{size}px-{digest.hexdigest()[:24]}"


def _cache_folder(root: Path, fallback: Path | None) -> Path:
    """Find a folder that can be written: in the data path, else in the fallback."""
    for folder in (root / FOLDER, None if fallback is None else fallback / "images"):
        if folder is None:
            continue
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    raise ValueError(f"cannot write the image cache in {root}; make the folder writable")


def _open(folder: Path, number: int, pixels: bool) -> Decoded | None:
    """Load a finished cache; None where there is none or a disk has damaged it."""
    try:
        statistics = np.load(folder / "statistics.npy")
        # copy on write: torch warns of arrays that cannot be written
        array = np.load(folder / "images.npy", mmap_mode="c") if pixels else None
    except (OSError, ValueError, EOFError):
        return None
    if any(len(x) != number for x in (statistics, array) if x is not None):
        return None
    return Decoded(array, statistics)


def decode(
    images: ImageFiles,
    size: int,
    pixels: bool,
    num_workers: int = 0,
    fallback: Path | None = None,
) -> Decoded:
    """Take decoded files from the cache, which is built if it is not there.

    Args:
        pixels: keep the decoded images; else only verify the files and keep the statistics.
        num_workers: processes that decode.
        fallback: where the cache goes if the data path cannot be written.

    Raises:
        ValueError: files that are no images, all of them counted and the first ones named.
    """
    cache = _cache_folder(images.root, fallback)
    folder = cache / _key(images, size, pixels)
    done = _open(folder, len(images), pixels)
    if done is None:
        with locked(cache / f"{folder.name}.lock"):
            done = _open(folder, len(images), pixels)  # another process may have built it
            if done is None:
                shutil.rmtree(folder, ignore_errors=True)  # damaged
                with atomic_folder(folder) as part:
                    statistics = _write_pixels(
                        images, size, pixels, num_workers, part / "images.npy"
                    )
                    np.save(part / "statistics.npy", statistics)
                done = _open(folder, len(images), pixels)
    assert done is not None
    return done


def _write_pixels(
    images: ImageFiles, size: int, pixels: bool, num_workers: int, path: Path
) -> np.ndarray:
    """Decode all, block by block into a file; return the statistics [N, 2, 3]."""
    blocks = DataLoader(
        Blocks(images, size, pixels),
        batch_size=None,  # an item is a block already
        num_workers=num_workers,
        generator=torch.Generator(),  # the global one must not depend on whether a cache was there
    )
    statistics, errors = [], []
    bar = progress_bar(len(images), "decode images", "img")
    with bar, open(path if pixels else os.devnull, "wb") as file:  # else only statistics are kept
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(images), size, size, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        for block, of_block, failed in blocks:
            errors += failed
            statistics.append(np.asarray(of_block))
            if block is not None:  # written, not mapped: a full disk is an error, not a crash
                file.write(np.asarray(block).tobytes())
            bar.update(len(of_block))
    if errors:
        others = f" ({len(errors)} such files, among them: {'; '.join(errors[1:4])})"
        raise ValueError(errors[0] + (others if len(errors) > 1 else ""))
    return np.concatenate(statistics)
