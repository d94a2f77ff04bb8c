"""The datasets, each as uint8 arrays in memory: a train part and a test part.

Adding one is a function `(folder) -> RawData`, a line in DATASETS and a recipe YAML under
config_file/dataset/.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SPLIT_SEED = 0  # splits belong to the dataset, not to a run: every run has the same test images
DIGITS_TEST_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class RawData:
    """Images [N, H, W, 3] uint8 and labels [N] int64, and how they are normalised and augmented."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    mean: tuple[float, float, float]  # of the train part, images scaled to [0, 1]
    std: tuple[float, float, float]
    crop_padding: int  # random crop: px of zero padding on each side, at the native size
    flip: bool  # random horizontal flip


def load_digits(folder: Path | None) -> RawData:
    """scikit-learn's 1,797 handwritten digits of 8x8 px, as grey colour images.

    https://archive.ics.uci.edu/dataset/80 (its test part, which is what scikit-learn embeds). The
    test part here is a stratified quarter.

    Raises:
        ValueError: a folder was given, though nothing is read from one.
    """
    if folder is not None:
        raise ValueError("digits is embedded and takes no --data-path; leave the flag out")
    from sklearn.datasets import load_digits as embedded_digits
    from sklearn.model_selection import train_test_split

    bunch = embedded_digits()
    grey = np.round(bunch.images * (255 / 16)).astype(np.uint8)  # stored as 0 to 16
    images = np.repeat(grey[..., None], 3, axis=3)
    train, test = train_test_split(
        np.arange(len(images)),
        test_size=DIGITS_TEST_SHARE,
        stratify=bunch.target,
        random_state=SPLIT_SEED,
    )
    pixels = images[train] / 255
    mean, std = float(pixels.mean()), float(pixels.std())
    return RawData(
        train_images=images[train],
        train_labels=bunch.target[train].astype(np.int64),
        test_images=images[test],
        test_labels=bunch.target[test].astype(np.int64),
        classes=tuple(str(name) for name in bunch.target_names),
        mean=(mean,) * 3,
        std=(std,) * 3,
        crop_padding=1,
        flip=False,  # a mirrored digit is another sign
    )


def _load_cifar(name: str, folder: Path | None) -> RawData:
    """CIFAR-10 or CIFAR-100 from torchvision, downloaded (with its progress bar) if not there.

    Raises:
        ValueError: the folder given does not exist, or its files are damaged.
        OSError: the download failed.
    """
    from torchvision.datasets import CIFAR10, CIFAR100

    if folder is not None and not folder.is_dir():
        raise ValueError(
            f"data folder {folder} does not exist; create it (the download goes there) or mend "
            f"--data-path"
        )
    root = folder or Path("datasets")
    kind = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    try:
        train = kind(str(root), train=True, download=True)
        test = kind(str(root), train=False, download=True)
    except RuntimeError as error:  # torchvision's word for a checksum that does not match
        raise ValueError(
            f"{name} in {root} is damaged or incomplete ({str(error).splitlines()[0]}); remove "
            f"{root / kind.base_folder} and run again"
        ) from error
    except OSError as error:
        raise OSError(
            f"{name} is not in {root} and cannot be downloaded ({error}); put "
            f"{kind.filename} there, or use --dataset digits"
        ) from error
    statistics = {
        "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    }
    mean, std = statistics[name]
    return RawData(
        train_images=train.data,
        train_labels=np.array(train.targets, dtype=np.int64),
        test_images=test.data,
        test_labels=np.array(test.targets, dtype=np.int64),
        classes=tuple(train.classes),
        mean=mean,
        std=std,
        crop_padding=4,
        flip=True,
    )


def load_cifar10(folder: Path | None) -> RawData:
    return _load_cifar("cifar10", folder)


def load_cifar100(folder: Path | None) -> RawData:
    return _load_cifar("cifar100", folder)


DATASETS: dict[str, Callable[[Path | None], RawData]] = {
    "digits": load_digits,
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
}
