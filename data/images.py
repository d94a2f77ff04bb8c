"""Images that are not in memory yet: files, and torchvision's fake ones, decoded one by one."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from utils.preprocessing import crop, read_image, short_side

if TYPE_CHECKING:
    from PIL.Image import Image

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

    def dataset(self):
        from torchvision.datasets import FakeData

        shape = (3, self.size, self.size)
        return FakeData(self.number, shape, self.num_classes, random_offset=self.offset)

    def labels(self) -> np.ndarray:
        """int64 [N]. FakeData draws a label after its pixels, so this draws all of them."""
        fake = self.dataset()
        return np.array([fake[i][1] for i in range(len(self))], dtype=np.int64)

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, i: int) -> Image:
        return self.dataset()[i][0]


def visible_files(folder: Path) -> list[str]:
    """Paths of all files below a folder that are not hidden, by folder and name."""
    return [
        os.path.join(where, name)
        for where, _, names in sorted(os.walk(folder, followlinks=True))
        for name in sorted(names)
        if name[0] != "."
    ]


def is_image(path: str) -> bool:
    """True if the name is that of an image file."""
    return path.lower().endswith(EXTENSIONS)


def left_out_text(paths: list[str]) -> str:
    """One line that counts files which are no images by extension and names one of each."""
    kinds = Counter(Path(path).suffix.lower() or "no extension" for path in paths)
    first = {Path(path).suffix.lower() or "no extension": path for path in reversed(paths)}
    counts = ", ".join(f"{n} {kind} ({first[kind]})" for kind, n in kinds.most_common())
    return f"note: left out, as they are not named like images: {counts}"


def fit(image: Image | np.ndarray, size: int) -> Image:
    """An image as evaluation sees it: the short side resized, then the centre `size` x `size`."""
    return crop(image, short_side(size), size)


def fingerprint(images: Images, labels: np.ndarray, classes: tuple[str, ...]) -> str:
    """sha256 of what a split depends on: classes, labels, and the names of files."""
    digest = hashlib.sha256("\n".join(classes).encode())
    digest.update(np.ascontiguousarray(labels, dtype="<i8").tobytes())
    if isinstance(images, ImageFiles):
        digest.update("\n".join(images.names).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
