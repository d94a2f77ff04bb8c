"""Flags of search.py."""

from __future__ import annotations

from argparse import BooleanOptionalAction, Namespace

from config_file.arg_config.common import (
    BY_DATASET,
    Parser,
    add_budget_flags,
    add_run_flags,
    add_space_flags,
    add_training_flags,
)
from config_file.arg_config.evaluation_config import add_evaluation_flags
from config_file.arg_config.fields import add_flags, groups, take
from config_file.arg_config.layers import unused_flags
from config_file.arg_config.sampling_config import add_sampling_flags, idle_groups
from config_file.arg_config.types import folder, integer, one_of
from search_strategy import STRATEGIES

STRATEGY_NAMES = {
    spelling: name for name, kind in STRATEGIES.items() for spelling in (name, *kind.aliases)
}
BY_SCORE = [name for name, kind in STRATEGIES.items() if kind.by_score]


def strategy_help() -> str:
    """The strategies with their other names and what is said about them."""
    parts = []
    for name, kind in STRATEGIES.items():
        notes = [f"also: {alias}" for alias in kind.aliases] + ([kind.about] if kind.about else [])
        parts.append(f"{name} ({'; '.join(notes)})" if notes else name)
    return ", ".join(parts[:-1]) + f", or {parts[-1]}"


def search_parser(description: str) -> Parser:
    parser = Parser(description)
    add_run_flags(parser, plans=True)
    add_space_flags(parser)

    group = parser.add_argument_group("search")
    group.add_argument(
        "--search-strategy",
        type=one_of(STRATEGY_NAMES),
        default="evolution",
        metavar="{" + ",".join(STRATEGIES) + "}",
        help=strategy_help(),
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
    group.add_argument(
        "--seeds",
        type=integer(1, 1000),
        default=1,
        metavar="K",
        help="searches with different random numbers, of which the spread is reported",
    )
    group.add_argument(
        "--oracle",
        type=folder,
        metavar="FILE",
        help="JSON of known accuracies in place of a supernet: nothing is trained",
    )
    group.add_argument(
        "--smooth",
        action=BooleanOptionalAction,
        default=False,
        help=f"{', '.join(BY_SCORE)}: the answer is the highest score halfway to the sums of "
        "choices' effects fitted to all scores: less of the noise wins",
    )
    add_evaluation_flags(parser)
    add_flags(parser, *(kind.Config for kind in STRATEGIES.values()))
    add_budget_flags(parser)
    add_training_flags(parser)
    add_sampling_flags(parser)
    return parser


def idle_flags(parser: Parser, argv: list[str], args: Namespace) -> list[str]:
    """Typed flags that have no effect in this run, to be named and not silently ignored."""
    own = {title for title, _ in groups(STRATEGIES[args.search_strategy].Config)}
    idle = {title for kind in STRATEGIES.values() for title, _ in groups(kind.Config)} - own
    if args.checkpoint or args.oracle:
        idle.add("supernet training")
    return unused_flags(parser, argv, idle | idle_groups(args))


def check_search(args: Namespace) -> None:
    """Check the flags that depend on the strategy.

    Raises:
        ValueError: a flag that does not go with the strategy or with known accuracies.
    """
    kind = STRATEGIES[args.search_strategy]
    if args.score != "top1" and (args.oracle or kind.needs_top1):
        names = [name for name, other in STRATEGIES.items() if not other.needs_top1]
        raise ValueError(
            f"--score probability goes with {', '.join(names)} search on a supernet; leave it out"
        )
    if args.smooth and not kind.by_score:
        raise ValueError(
            f"--smooth goes with {', '.join(BY_SCORE)} search, which choose by the highest score; "
            f"leave it out with {args.search_strategy}"
        )
    if args.oracle and kind.needs_prior:
        raise ValueError("--oracle has no gradients; take another --search-strategy")
    take(kind.Config, args)
