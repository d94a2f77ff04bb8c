"""Flags of the search space, the images, and how candidates are scored on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from config_file.arg_config.fields import BY_RECIPE, FROM_CHECKPOINT, MAY_DIFFER, flag, switch
from config_file.arg_config.names import DATASETS
from config_file.arg_config.types import count, integer, jitter, number, path, widths

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
        None, widths, "channels of stem, (first,) stages, last", marks=[FROM_CHECKPOINT]
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
        None, integer(8, 1024), "image size", "PX", marks=[FROM_CHECKPOINT, BY_RECIPE]
    )
    train_portion: float = flag(
        0.8,
        number(0, 0.99, True),
        "share of the training images to train on; the rest is for validation",
        marks=[FROM_CHECKPOINT],
    )
    eval_batch_size: int = flag(
        None,
        count,
        "images per batch of calibration and validation",
        marks=[FROM_CHECKPOINT, BY_RECIPE],
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
        "processes that decode and augment streamed images; those in memory need none",
        marks=[MAY_DIFFER, BY_RECIPE],
    )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    title: ClassVar[str] = "augmentation"

    augment: bool = switch(None, "random crops, and flips where they keep the class", [BY_RECIPE])
    color_jitter: tuple[float, ...] | None = flag(
        None,
        jitter,
        "random brightness, contrast, saturation and hue of each training image, by so much at "
        "most; SPOS: 0.4,0.4,0.4,0 (default: none)",
    )
    randaugment: int = flag(
        0, integer(0, 10), "operations of RandAugment on each training image; 0 is none"
    )
    cutout: int = flag(
        0, integer(0), "side of the square cut out of each training image; 0 is none", "PX"
    )


NO_AUGMENTATION = AugmentConfig(augment=False)


def calibration_batches_flag(whose: str) -> int:
    return flag(None, count, f"batches that estimate {whose} BN statistics", marks=[BY_RECIPE])


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    title: ClassVar[str] = "evaluation"

    calibration_batches: int = calibration_batches_flag("a candidate's")
    eval_precision: str = flag(
        "fp32",
        ("fp32", "bf16"),
        "of convolutions and activations; bf16 is faster where the hardware has it, and may swap "
        "candidates whose scores are close",
    )
    score: str = flag(
        "top1",
        ("top1", "probability", "separation"),
        "what candidates are chosen by; probability: the mean probability of the true class, which "
        "tells more of few validation images; separation: that and Fisher's criterion of the last "
        "features",
    )
    eval_cache_mb: int = flag(
        512,
        integer(0),
        "MiB of activations that each scoring process keeps to share work between candidates; less "
        "computes more again",
    )
