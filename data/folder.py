"""Folders of images by class: train/ and test/ or val/, or one folder to be split."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from data.images import ImageFiles

log = logging.getLogger("oneshot_nas")
Part = tuple[ImageFiles, np.ndarray, tuple[str, ...]]  # images, labels int64 [N], class names


def sub_folders(folder: Path) -> list[str]:
    """Names of the visible folders in a folder, sorted.

    Raises:
        ValueError: it does not exist or cannot be read.
    """
    try:
        return sorted(x.name for x in folder.iterdir() if x.is_dir() and x.name[0] != ".")
    except OSError as error:
        raise ValueError(
            f"cannot read the image folder {folder} ({error.strerror}); mend --data-path or the "
            f"folder's permissions"
        ) from error


def read_part(root: Path, part: str) -> Part:
    """The images of every class folder in root/part, by class and name.

    Raises:
        ValueError: there is no class, or one without images.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    folder = root / part
    classes = sub_folders(folder)
    if not classes:
        raise ValueError(f"{folder} has no sub-folders; it needs one per class, images inside")
    samples = make_dataset(
        str(folder),
        {name: i for i, name in enumerate(classes)},
        extensions=IMG_EXTENSIONS,
        allow_empty=True,
    )
    labels = np.array([label for _, label in samples], dtype=np.int64)
    for i in np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0):
        raise ValueError(
            f"{folder / classes[i]} holds no images ({', '.join(IMG_EXTENSIONS)}) that can be "
            f"read; fill or remove the folder"
        )
    names = tuple(Path(path).relative_to(root).as_posix() for path, _ in samples)
    return ImageFiles(root, names), labels, tuple(classes)


def read_parts(root: Path, train: str, test: str) -> tuple[Part, Part]:
    """Both parts. Raises ValueError where their classes differ."""
    first, second = read_part(root, train), read_part(root, test)
    for name in sorted(set(first[2]) ^ set(second[2])):
        there, missing = (train, test) if name in first[2] else (test, train)
        raise ValueError(
            f"class '{name}' is in {root / there} but not in {root / missing}; both need the same "
            f"class folders"
        )
    return first, second


def is_split(root: Path) -> bool:
    """Whether root/train holds class folders, rather than the images of a class named train."""
    return "train" in sub_folders(root) and bool(sub_folders(root / "train"))


def find_test(root: Path) -> str:
    """The folder beside train/ that is the test set. Raises ValueError where there is none."""
    there = [name for name in ("test", "val") if name in sub_folders(root)]
    if not there:
        raise ValueError(
            f"{root} has train/ but neither test/ nor val/; add one, or give --data-path a folder "
            f"of class folders to have it split"
        )
    if len(there) == 2:
        log.info(f"note: {root / 'test'} is the test set; {root / 'val'} is not used")
    return there[0]


def take(part: Part, rows: np.ndarray) -> tuple[ImageFiles, np.ndarray]:
    files, labels, _ = part
    return ImageFiles(files.root, tuple(files.names[i] for i in rows)), labels[rows]
