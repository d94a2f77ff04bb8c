"""Flags of search.py."""

from __future__ import annotations

from argparse import BooleanOptionalAction

from config_file.arg_config.common import (
    BY_DATASET,
    Parser,
    add_budget_flags,
    add_run_flags,
    add_space_flags,
    add_training_flags,
)
from config_file.arg_config.evaluation_config import add_evaluation_flags
from config_file.arg_config.sampling_config import add_sampling_flags
from config_file.arg_config.types import folder, integer, number, one_of

STRATEGY_NAMES = {
    "random": "random",
    "random_search": "random",
    "evolution": "evolution",
    "differentiable": "differentiable",
    "gradient": "differentiable",
}


def search_parser(description: str) -> Parser:
    parser = Parser(description)
    add_run_flags(parser)
    add_space_flags(parser)

    group = parser.add_argument_group("search")
    group.add_argument(
        "--search-strategy",
        type=one_of(STRATEGY_NAMES),
        default="evolution",
        metavar="{random,evolution,differentiable}",
        help="random (also: random_search), evolution, or differentiable (also: gradient)",
    )
    group.add_argument(
        "--checkpoint",
        type=folder,
        metavar="FILE",
        help="search this supernet.pt; its space and dataset are the defaults, nothing is trained",
    )
    group.add_argument(
        "--calibration-batches",
        type=integer(1),
        metavar="N",
        help=f"batches that estimate a candidate's BN statistics ({BY_DATASET})",
    )
    group.add_argument(
        "--random-control",
        action=BooleanOptionalAction,
        default=True,
        help="compare with as many random candidates; doubles the evaluations",
    )
    add_evaluation_flags(parser)
    group = parser.add_argument_group("random search")
    group.add_argument(
        "--random-iteration", type=integer(1), default=1000, metavar="N", help="candidates"
    )
    group = parser.add_argument_group("evolution")
    group.add_argument(
        "--generation-num",
        "--generation_num",
        type=integer(1),
        default=20,
        metavar="N",
        help="generations, the random first one included",
    )
    group.add_argument(
        "--population",
        type=integer(2, 100_000),
        default=60,
        metavar="N",
        help="candidates per generation",
    )
    group.add_argument(
        "--parent-num", type=integer(1), default=10, metavar="N", help="best so far that breed"
    )
    group.add_argument(
        "--mutation-prob",
        type=number(0, 1),
        default=0.1,
        metavar="F",
        help="chance of each layer to be drawn anew",
    )
    add_budget_flags(parser)
    add_training_flags(parser)
    add_sampling_flags(parser)
    return parser
