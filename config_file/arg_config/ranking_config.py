"""Flags of evaluate_ranking.py."""

from __future__ import annotations

from config_file.arg_config.common import BY_DATASET, Parser, add_run_flags, add_space_flags
from config_file.arg_config.evaluation_config import add_evaluation_flags
from config_file.arg_config.names import METRICS
from config_file.arg_config.types import folder, integer, numbers


def ranking_parser(description: str) -> Parser:
    parser = Parser(description)
    add_run_flags(parser)
    add_space_flags(parser)
    group = parser.add_argument_group("ranking")
    group.add_argument(
        "--checkpoint",
        type=folder,
        metavar="FILE",
        help="the supernet.pt that ranks; its space and dataset are the defaults",
    )
    group.add_argument(
        "--benchmark",
        type=folder,
        metavar="FILE",
        help="JSON of true accuracies: {digits: {mean_acc, std}}, a digit per layer",
    )
    group.add_argument(
        "--num-architectures",
        type=integer(3),
        metavar="N",
        help="rank so many of the benchmark's networks, drawn at random (default: all)",
    )
    group.add_argument(
        "--validation-images",
        type=integer(1),
        metavar="N",
        help="score on so many validation images, drawn at random (default: all)",
    )
    group.add_argument(
        "--calibration-batches",
        type=integer(1),
        metavar="N",
        help=f"batches that estimate a network's BN statistics ({BY_DATASET})",
    )
    group.add_argument(
        "--bootstrap", type=integer(10), default=1000, metavar="N", help="draws per interval"
    )
    group.add_argument(
        "--info-metric", choices=METRICS, default="flops", help="what --budgets limit"
    )
    group.add_argument(
        "--cost-input-size",
        type=integer(1),
        metavar="PX",
        help="image size at which MACs are counted, where a supernet of small images ranks "
        "networks for larger ones (default: --input-size)",
    )
    group.add_argument(
        "--budgets",
        type=numbers,
        metavar="M,M,...",
        help="millions within which the choice by score is compared with the best (default: "
        "quartiles of the ranked networks)",
    )
    add_evaluation_flags(parser)
    # what concerns training batches, of which none is seen here
    parser.set_defaults(batch_size=2, augment=False, randaugment=0, cutout=0)
    return parser
