"""Train, validation and test: validation is carved from train, test is only for the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data.datasets import DATASETS, SPLIT_SEED, RawData
from data.loader import Augmentation, Loader


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Three disjoint parts of a dataset as loaders.

    Attributes:
        train: augmented and shuffled, drops the last, smaller batch.
        calibration: the training images as they are, in a fixed random order.
        validation: what a search looks at; as they are, in order, every image.
        test: for the final network only; as they are, in order, every image.
    """

    train: Loader
    calibration: Loader
    validation: Loader
    test: Loader
    num_classes: int
    indices: dict[str, np.ndarray]  # of train and validation within the dataset's train part
    classes: tuple[str, ...]
    mean: tuple[float, float, float]  # of images scaled to [0, 1]; what loaders normalise with
    std: tuple[float, float, float]


def split_train(labels: np.ndarray, train_portion: float) -> tuple[np.ndarray, np.ndarray]:
    """Stratified indices of train and validation, the same for every run.

    Raises:
        ValueError: a part would lack images of a class.
    """
    from sklearn.model_selection import train_test_split

    try:
        train, validation = train_test_split(
            np.arange(len(labels)),
            train_size=train_portion,
            stratify=labels,
            random_state=SPLIT_SEED,
        )
    except ValueError as error:
        raise ValueError(
            f"--train-portion {train_portion} leaves too few images for one of the parts: {error}"
        ) from error
    return np.sort(train), np.sort(validation)


def _as_tensor(images: np.ndarray, size: int) -> Tensor:
    """uint8 [N, H, W, 3] -> uint8 [N, 3, size, size]."""
    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    if tensor.shape[-1] == size:
        return tensor
    parts = [
        F.interpolate(part.float(), (size, size), mode="bilinear", antialias=True)
        for part in tensor.split(1000)  # float copies of all images at once would be 4 times as big
    ]
    return torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in parts])


def load_splits(
    dataset: str,
    folder: Path | None,
    input_size: int,
    batch_size: int,
    eval_batch_size: int,
    train_portion: float,
    seed: int,
    device: torch.device,
    num_workers: int = 0,
    augment: bool = True,
    randaugment: int = 0,
    cutout: int = 0,
) -> Splits:
    """Load a dataset, carve validation from its train part, put everything on the device.

    Args:
        batch_size: of training; 0 < batch_size <= training images.
        eval_batch_size: of calibration, validation and test.
        seed: of the order and augmentation of training images.
        num_workers: processes that augment; 0 augments whole batches on the device.
        augment: random crops, and flips where they keep the class; else only shuffle.
        randaugment: operations of RandAugment per training image, whether or not `augment`.
        cutout: px of the side of the square cut out of each training image; 0 is none.

    Raises:
        ValueError: a folder, a portion or a batch size that cannot be.
    """
    raw: RawData = DATASETS[dataset](folder)
    train, validation = split_train(raw.train_labels, train_portion)
    if not 0 < batch_size <= len(train):
        raise ValueError(
            f"--batch-size {batch_size}: {dataset} has {len(train)} training images; take fewer"
        )
    native = raw.train_images.shape[1]
    shift = round(raw.crop_padding * input_size / native)
    augmentation = Augmentation(
        padding=shift if augment else 0,
        flip=raw.flip and augment,
        randaugment=randaugment,
        cutout=cutout,
    )
    train_images = _as_tensor(raw.train_images, input_size)
    test_images = _as_tensor(raw.test_images, input_size)
    train_labels = torch.from_numpy(raw.train_labels)

    def loader(images: Tensor, labels: Tensor, size: int, **options: object) -> Loader:
        return Loader(images, labels, size, raw.mean, raw.std, device, **options)

    order = np.random.default_rng(SPLIT_SEED).permutation(train)  # classes mixed in each batch
    return Splits(
        train=loader(
            train_images[train],
            train_labels[train],
            batch_size,
            augmentation=augmentation,
            seed=seed,
            num_workers=num_workers,
        ),
        calibration=loader(train_images[order], train_labels[order], eval_batch_size),
        validation=loader(train_images[validation], train_labels[validation], eval_batch_size),
        test=loader(test_images, torch.from_numpy(raw.test_labels), eval_batch_size),
        num_classes=len(raw.classes),
        indices={"train": train, "validation": validation},
        classes=raw.classes,
        mean=raw.mean,
        std=raw.std,
    )
