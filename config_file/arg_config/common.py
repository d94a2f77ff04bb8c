"""Flags that several commands share, in the groups that --help shows."""

from __future__ import annotations

import shutil
from argparse import (
    Action,
    ArgumentParser,
    BooleanOptionalAction,
    RawDescriptionHelpFormatter,
    _ArgumentGroup,
)
from pathlib import Path
from typing import NoReturn

from config_file.arg_config.data_config import BY_DATASET, add_augment_flags, add_data_flags
from config_file.arg_config.names import (
    AMP,
    LR_SCHEDULERS,
    ON_NAN,
    OPTIMIZERS,
    SUPERNET_INITS,
)
from config_file.arg_config.types import budget, folder, integer, number, threads, widths
from utils.errors import one_line


class HelpFormatter(RawDescriptionHelpFormatter):
    """States every default that a flag has of its own; uses a wide terminal up to 100 columns."""

    def __init__(self, prog: str) -> None:
        columns = min(100, shutil.get_terminal_size((100, 24)).columns)
        super().__init__(prog, max_help_position=26, width=columns)

    def _get_help_string(self, action: Action) -> str | None:
        text = action.help or ""
        if action.default in (None, "==SUPPRESS==") or "default" in text:
            return text
        if isinstance(action, BooleanOptionalAction) or isinstance(action.default, bool):
            return f"{text} (default: {'on' if action.default else 'off'})"
        return f"{text} (default: {action.default})"


class Parser(ArgumentParser):
    """argparse whose errors are one line, and which takes no abbreviated flags."""

    def __init__(self, description: str, usage: str = "%(prog)s [flags]") -> None:
        super().__init__(
            description=description, usage=usage, formatter_class=HelpFormatter, allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {one_line(message)} (see --help)\n")


def add_run_flags(parser: ArgumentParser, plans: bool = False) -> None:
    """`plans`: the command has --dry-run."""
    group = parser.add_argument_group("the run")
    group.add_argument("--title", help="name of the run's folder (default: kind and time)")
    group.add_argument("--config", type=folder, metavar="FILE", help="YAML of flags by name")
    group.add_argument(
        "--resume", action=BooleanOptionalAction, default=False, help="go on with run --title"
    )
    if plans:
        group.add_argument(
            "--dry-run",
            action="store_true",
            help="print the plan: sizes, steps, candidates, files; write no run",
        )
    group.add_argument("--quiet", action="store_true", help="show errors only; log.txt has it all")
    group.add_argument(
        "--run-dir", type=folder, default=Path("runs"), metavar="DIR", help="folder of all runs"
    )
    group.add_argument(
        "--cache-dir",
        type=folder,
        default=Path(".cache"),
        metavar="DIR",
        help="lookup tables already built",
    )
    group.add_argument(
        "--random-seed", type=integer(0, 2**32 - 1), default=0, metavar="N", help="seed of all"
    )
    group.add_argument(
        "--device",
        choices=("auto", "cuda", "cpu", "mps"),
        default="auto",
        help="where to compute; auto: the first of cuda, mps, cpu that is there",
    )
    group.add_argument(
        "--threads",
        type=threads,
        default="auto",
        metavar="N|auto",
        help="CPU threads; auto: as many as a few timed steps show to pay, of those that affinity, "
        "container quota and OMP_NUM_THREADS allow; cores that are left score candidates in "
        "processes of their own",
    )


def add_space_flags(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("search space and data")
    group.add_argument(
        "--search-space",
        default="proxylessnas",
        metavar="NAME|FILE",
        help="a name under config_file/search_space/, or a path that ends in .yaml",
    )
    group.add_argument(
        "--widths", type=widths, metavar="N,N,...", help="channels of stem, (first,) stages, last"
    )
    add_data_flags(group)


def add_training_flags(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("supernet training")
    group.add_argument(
        "--supernet-init",
        choices=SUPERNET_INITS,
        help="weights at the start; aligned: a layer's choices are slices of one kernel, "
        f"as short trainings need ({BY_DATASET})",
    )
    group.add_argument(
        "--init-from",
        type=folder,
        metavar="FILE",
        help="supernet.pt whose weights are the start instead, trained on images of any size: "
        "epochs of small images, then a few of large ones",
    )
    add_recipe_flags(group)
    group.add_argument(
        "--sync-bn",
        action=BooleanOptionalAction,
        default=False,
        help="of several GPUs: batch norms over the images of all of them",
    )


def add_recipe_flags(group: ArgumentParser | _ArgumentGroup, min_epochs: int = 1) -> None:
    """What the training of a supernet and of a subnet have in common."""
    group.add_argument("--epochs", type=integer(min_epochs), metavar="N", help=f"({BY_DATASET})")
    group.add_argument(
        "--batch-size", type=integer(2), metavar="N", help=f"images per step ({BY_DATASET})"
    )
    add_augment_flags(group)
    group.add_argument("--optimizer", choices=OPTIMIZERS, help=f"({BY_DATASET})")
    group.add_argument(
        "--lr",
        type=number(0, open_low=True),
        metavar="F",
        help=f"peak learning rate ({BY_DATASET})",
    )
    group.add_argument(
        "--momentum",
        type=number(0, 0.9999),
        default=0.9,
        metavar="F",
        help="of sgd (Nesterov) and rmsprop; first beta of adam(w) (default: recipe, or 0.9)",
    )
    group.add_argument("--weight-decay", type=number(0), metavar="F", help=f"({BY_DATASET})")
    group.add_argument("--lr-scheduler", choices=LR_SCHEDULERS, default="cosine", help="per step")
    group.add_argument(
        "--decay-step",
        type=integer(1),
        default=30,
        metavar="N",
        help="of step: epochs between decays",
    )
    group.add_argument(
        "--decay-ratio",
        type=number(0, 1, open_low=True),
        default=0.1,
        metavar="F",
        help="of step: factor of each decay",
    )
    group.add_argument(
        "--warmup-epochs", type=integer(0), metavar="N", help=f"linear warm-up ({BY_DATASET})"
    )
    group.add_argument(
        "--label-smoothing", type=number(0, 0.99), metavar="F", help=f"({BY_DATASET})"
    )
    group.add_argument(
        "--amp",
        choices=AMP,
        default="off",
        help="mixed precision of forward and backward passes; pays on GPUs",
    )
    group.add_argument(
        "--compile",
        action=BooleanOptionalAction,
        default=False,
        help="compile each block at its first use: a slow start, then faster steps",
    )
    group.add_argument(
        "--grad-clip", type=number(0), default=5.0, metavar="F", help="gradient norm; 0 is none"
    )
    group.add_argument(
        "--on-nan",
        choices=ON_NAN,
        default="stop",
        help="a step whose loss is NaN or infinite: stop there, or leave the step out",
    )


def add_budget_flags(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("budget")
    group.add_argument(
        "--info-metric",
        default="flops",
        metavar="{flops,params,latency}",
        help="what the budget limits; latency is measured here if no table brings it, and a table "
        "can bring any other metric",
    )
    group.add_argument(
        "--target-hc",
        type=budget,
        metavar="M|median|none",
        help="upper limit in millions of MACs or params, or ms; median of all architectures; none "
        f"({BY_DATASET})",
    )
    group.add_argument(
        "--min-hc", type=budget, metavar="M|none", help="lower limit, likewise (default: none)"
    )
    add_latency_flags(group)


def add_latency_flags(group: _ArgumentGroup) -> None:
    """Where latencies come from."""
    group.add_argument(
        "--lookup-table",
        type=folder,
        metavar="FILE",
        help="YAML or CSV of costs measured elsewhere; see docs/lookup_tables.md",
    )
    group.add_argument(
        "--latency-batch-size", type=integer(1), default=1, metavar="N", help="images per run"
    )
    group.add_argument(
        "--latency-threads", type=integer(1, 1024), default=1, metavar="N", help="CPU threads"
    )
    group.add_argument(
        "--latency-seconds",
        type=number(0, 3600, open_low=True),
        default=0.1,
        metavar="F",
        help="least time per block, in several turns; the median counts",
    )
