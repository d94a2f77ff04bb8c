"""Flags of how candidates are scored on a supernet."""

from __future__ import annotations

from argparse import ArgumentParser

from config_file.arg_config.names import EVAL_PRECISIONS, SCORES
from config_file.arg_config.types import integer


def add_evaluation_flags(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("evaluation")
    group.add_argument(
        "--eval-precision",
        choices=EVAL_PRECISIONS,
        default="fp32",
        help="of convolutions and activations; bf16 is faster where the hardware has it, and may "
        "swap candidates whose scores are close",
    )
    group.add_argument(
        "--score",
        choices=SCORES,
        default="top1",
        help="what candidates are chosen by; probability: the mean probability of the true class, "
        "which tells more of few validation images (default: top1)",
    )
    group.add_argument(
        "--eval-cache-mb",
        type=integer(0),
        default=512,
        metavar="N",
        help="MiB of activations kept to share work between candidates; less computes more again",
    )
