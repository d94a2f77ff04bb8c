"""Images that are not in memory yet: files, and torchvision's fake ones, decoded one by one."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from utils.preprocessing import crop, read_image, short_side

if TYPE_CHECKING:
    from PIL.Image import Image
    from torchvision.datasets import FakeData

FORMATS = "avif bmp dib gif ico jfif jp2 jpe jpeg jpg pbm pcx pgm png pnm ppm tga tif tiff webp"
EXTENSIONS = tuple(f".{name}" for name in FORMATS.split())  # of what is taken for an image


class Images(Protocol):
    """N images; each is an RGB PIL image, or uint8 [H, W, 3] of an array [N, H, W, 3]."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> Image | np.ndarray: ...


@dataclass(frozen=True)
class ImageFiles:
    """Files below `root`; whatever their mode, they come as RGB."""

    root: Path
    names: tuple[str, ...]  # relative to root

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> Image:
        return read_image(self.root / self.names[i])


@dataclass(frozen=True)
class FakeImages:
    """torchvision's FakeData: noise, the same for the same `offset` and index."""

    number: int
    offset: int
    num_classes: int = 10
    size: int = 256  # px

    def dataset(self) -> FakeData:
        from torchvision.datasets import FakeData

        shape = (3, self.size, self.size)
        return FakeData(self.number, shape, self.num_classes, random_offset=self.offset)

    def labels(self) -> np.ndarray:
        """Draw all labels, int64 [N], and all pixels, after which FakeData draws a label."""
        fake = self.dataset()
        return np.array([fake[i][1] for i in range(len(self))], dtype=np.int64)

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, i: int) -> Image:
        return self.dataset()[i][0]


def walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the folders below one, links followed, with the names of their files.

    A link to a folder that contains it is not followed: it would repeat all of it some 40 times.
    """
    for where, folders, names in os.walk(folder, followlinks=True):
        here = Path(where).resolve()
        folders[:] = [f for f in folders if not here.is_relative_to((here / f).resolve())]
        yield where, names


def list_files(folder: Path) -> tuple[list[str], list[str]]:
    """List the images below a folder, and its other files that are not hidden, in order."""
    paths = [
        os.path.join(where, name)
        for where, names in sorted(walk(folder))
        for name in sorted(names)
        if name[0] != "."
    ]
    images = [path for path in paths if path.lower().endswith(EXTENSIONS)]
    return images, [path for path in paths if not path.lower().endswith(EXTENSIONS)]


def left_out_text(paths: list[str]) -> str:
    """One line that counts files which are no images by extension and names one of each."""
    kinds = Counter(Path(path).suffix.lower() or "no extension" for path in paths)
    first = {Path(path).suffix.lower() or "no extension": path for path in reversed(paths)}
    counts = ", ".join(f"{n} {kind} ({first[kind]})" for kind, n in kinds.most_common())
    return f"note: left out, as they are not named like images: {counts}"


def fit(image: Image | np.ndarray, size: int) -> Image:
    """Prepare an image for evaluation: resize the short side, take the centre `size` x `size`."""
    return crop(image, short_side(size), size)


def fingerprint(images: Images, labels: np.ndarray, classes: tuple[str, ...]) -> str:
    """Compute the sha256 of what a split depends on: classes, labels, names of files."""
    digest = hashlib.sha256("\n".join(classes).encode())
    digest.update(np.ascontiguousarray(labels, dtype="<i8").tobytes())
    if isinstance(images, ImageFiles):
        digest.update("\n".join(images.names).encode("utf-8", "surrogateescape"))  # any bytes
    return digest.hexdigest()
