"""Flags of datasets and of the augmentation of training images."""

from __future__ import annotations

from argparse import ArgumentParser, BooleanOptionalAction, _ArgumentGroup

from config_file.arg_config.names import DATASETS, PIPELINES
from config_file.arg_config.types import folder, integer, number

BY_DATASET = "default: the dataset's recipe"


def add_data_flags(group: ArgumentParser | _ArgumentGroup) -> None:
    group.add_argument("--dataset", choices=DATASETS, default="digits", help="images")
    group.add_argument(
        "--data-path",
        type=folder,
        metavar="DIR",
        help="where the dataset is, or is downloaded to (default: datasets; image_folder needs it)",
    )
    group.add_argument(
        "--input-size", type=integer(8, 1024), metavar="PX", help=f"image size ({BY_DATASET})"
    )
    group.add_argument(
        "--train-portion",
        type=number(0, 0.99, open_low=True),
        default=0.8,
        metavar="F",
        help="share of the training images to train on; the rest is for validation",
    )
    group.add_argument(
        "--eval-batch-size",
        type=integer(1),
        metavar="N",
        help=f"images per batch of calibration and validation ({BY_DATASET})",
    )
    group.add_argument(
        "--data-pipeline",
        choices=PIPELINES,
        default="auto",
        help="memory: all images on the device, augmented there; streaming: decoded anew in every "
        "epoch; auto: memory for what fits, streaming for files above 64 px and RandAugment",
    )
    group.add_argument(
        "--num-workers",
        type=integer(0, 256),
        default=0,
        metavar="N",
        help="processes that decode and augment streamed images; those in memory need none "
        "(default: the recipe, or 0)",
    )


def add_augment_flags(group: ArgumentParser | _ArgumentGroup) -> None:
    group.add_argument(
        "--augment",
        action=BooleanOptionalAction,
        help=f"random crops, and flips where they keep the class ({BY_DATASET})",
    )
    group.add_argument(
        "--randaugment",
        type=integer(0, 10),
        default=0,
        metavar="N",
        help="operations of RandAugment on each training image; 0 is none",
    )
    group.add_argument(
        "--cutout",
        type=integer(0),
        default=0,
        metavar="PX",
        help="side of the square cut out of each training image; 0 is none",
    )
