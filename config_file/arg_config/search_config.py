"""Flags of search.py."""

from __future__ import annotations

from argparse import Action, ArgumentParser, BooleanOptionalAction, Namespace

from config_file.arg_config.common import (
    BY_DATASET,
    Parser,
    add_budget_flags,
    add_run_flags,
    add_space_flags,
    add_training_flags,
)
from config_file.arg_config.evaluation_config import add_evaluation_flags
from config_file.arg_config.layers import unused_flags
from config_file.arg_config.sampling_config import add_sampling_flags, idle_groups
from config_file.arg_config.types import folder, integer, number, one_of

STRATEGY_NAMES = {
    "random": "random",
    "random_search": "random",
    "evolution": "evolution",
    "pareto": "pareto",
    "additive": "additive",
    "differentiable": "differentiable",
    "gradient": "differentiable",
}


def words(text: str) -> list[str]:
    """Words with commas between them."""
    return [word for word in text.split(",") if word]


class Words(Action):
    """A list of words, with spaces or commas between them."""

    def __call__(
        self,
        parser: ArgumentParser,
        args: Namespace,
        values: list[list[str]],
        option: str | None = None,
    ) -> None:
        setattr(args, self.dest, [word for part in values for word in part])


def search_parser(description: str) -> Parser:
    parser = Parser(description)
    add_run_flags(parser, plans=True)
    add_space_flags(parser)

    group = parser.add_argument_group("search")
    group.add_argument(
        "--search-strategy",
        type=one_of(STRATEGY_NAMES),
        default="evolution",
        metavar="{random,evolution,pareto,additive,differentiable}",
        help="random (also: random_search), evolution, pareto (NSGA-II), additive (the best sum of "
        "what choices are worth in random candidates), or differentiable (also: gradient)",
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
        help="random, evolution: the answer is the highest score halfway to the sums of choices' "
        "effects fitted to all scores: less of the noise wins",
    )
    add_evaluation_flags(parser)
    group = parser.add_argument_group("random search")
    group.add_argument(
        "--random-iteration",
        type=integer(1),
        default=1000,
        metavar="N",
        help="candidates, also of additive",
    )
    group = parser.add_argument_group("evolution and pareto")
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
        "--mutation-prob",
        type=number(0, 1),
        default=0.1,
        metavar="F",
        help="chance of each layer to be drawn anew",
    )
    group.add_argument(
        "--crossover-prob",
        type=number(0, 1),
        default=0.5,
        metavar="F",
        help="share of children that have two parents",
    )
    group = parser.add_argument_group("evolution")
    group.add_argument(
        "--parent-num", type=integer(1), default=10, metavar="N", help="best so far that breed"
    )
    group.add_argument(
        "--aging",
        type=integer(0),
        nargs="?",
        const=3,
        default=0,
        metavar="G",
        help="generations for which a candidate can breed; 0: for ever; 3 if only named",
    )
    group.add_argument(
        "--patience",
        type=integer(0),
        default=0,
        metavar="G",
        help="stop after so many generations without a better best; 0: never",
    )
    group = parser.add_argument_group("pareto")
    group.add_argument(
        "--objectives",
        action=Words,
        type=words,
        nargs="+",
        default=["flops"],
        metavar="METRIC",
        help="one or two costs to minimise beside the top-1 error (default: flops)",
    )
    add_budget_flags(parser)
    add_training_flags(parser)
    add_sampling_flags(parser)
    return parser


def idle_flags(parser: Parser, argv: list[str], args: Namespace) -> list[str]:
    """Typed flags that have no effect in this run, to be named and not silently ignored."""
    used = {
        "random": {"random search"},
        "additive": {"random search"},
        "evolution": {"evolution", "evolution and pareto"},
        "pareto": {"pareto", "evolution and pareto"},
    }
    idle = set().union(*used.values()) - used.get(args.search_strategy, set())
    if args.checkpoint or args.oracle:
        idle.add("supernet training")
    return unused_flags(parser, argv, idle | idle_groups(args))
