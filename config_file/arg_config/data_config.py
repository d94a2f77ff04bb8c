"""Flags of the search space, the dataset and the augmentation of training images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from config_file.arg_config.fields import FROM_CHECKPOINT, MAY_DIFFER, flag, switch
from config_file.arg_config.types import integer, number, path, widths

DATASETS = ("digits", "cifar10", "cifar100", "imagenet", "image_folder", "fake")
BY_DATASET = "default: the dataset's recipe"
SPACE_AND_DATA = "search space and data"  # a group of --help


@dataclass(frozen=True, kw_only=True)
class SpaceConfig:
    title: ClassVar[str] = SPACE_AND_DATA

    search_space: str = flag(
        "proxylessnas",
        str,
        "a name under config_file/search_space/, or a path that ends in .yaml",
        "NAME|FILE",
        marks=[FROM_CHECKPOINT],
    )
    widths: tuple[int, ...] | None = flag(
        None,
        widths,
        "channels of stem, (first,) stages, last",
        "N,N,...",
        marks=[FROM_CHECKPOINT],
    )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    title: ClassVar[str] = "data"

    dataset: str = flag("digits", DATASETS, "images", marks=[FROM_CHECKPOINT])
    data_path: Path | None = flag(
        None,
        path,
        "where the dataset is, or is downloaded to (default: datasets; image_folder needs it)",
        "DIR",
        marks=[FROM_CHECKPOINT, MAY_DIFFER],
    )
    input_size: int = flag(
        None, integer(8, 1024), f"image size ({BY_DATASET})", "PX", marks=[FROM_CHECKPOINT]
    )
    train_portion: float = flag(
        0.8,
        number(0, 0.99, open_low=True),
        "share of the training images to train on; the rest is for validation",
        "F",
        marks=[FROM_CHECKPOINT],
    )
    eval_batch_size: int = flag(
        None,
        integer(1),
        f"images per batch of calibration and validation ({BY_DATASET})",
        "N",
        marks=[FROM_CHECKPOINT],
    )
    data_pipeline: str = flag(
        "auto",
        ("auto", "memory", "streaming"),
        "memory: all images on the device, augmented there; streaming: decoded anew in every "
        "epoch; auto: memory for what fits, streaming for files above 64 px and RandAugment",
    )
    num_workers: int = flag(
        0,
        integer(0, 256),
        "processes that decode and augment streamed images; those in memory need none "
        "(default: the recipe, or 0)",
        "N",
        marks=[MAY_DIFFER],
    )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    title: ClassVar[str] = "augmentation"

    augment: bool = switch(
        None, f"random crops, and flips where they keep the class ({BY_DATASET})"
    )
    randaugment: int = flag(
        0, integer(0, 10), "operations of RandAugment on each training image; 0 is none", "N"
    )
    cutout: int = flag(
        0, integer(0), "side of the square cut out of each training image; 0 is none", "PX"
    )


NO_AUGMENTATION = AugmentConfig(augment=False)
