"""Flags of train_subnet.py, and what an architecture file decides of them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from config_file.arg_config.common import (
    BY_DATASET,
    Parser,
    add_data_flags,
    add_recipe_flags,
    add_run_flags,
)
from config_file.arg_config.layers import RECIPES, SUBNET_RECIPES, Values, parse
from config_file.arg_config.types import folder, integer, number


def subnet_parser(description: str) -> Parser:
    parser = Parser(description)
    add_run_flags(parser)
    group = parser.add_argument_group("the network")
    group.add_argument(
        "--arch",
        metavar="FILE|NAME",
        help="best_architecture.yaml of a search, or a published network's name",
    )
    group.add_argument(
        "--list-architectures", action="store_true", help="show the published networks and stop"
    )
    group.add_argument(
        "--init-from",
        type=folder,
        metavar="FILE",
        help="weights at the start: a supernet.pt, or a network's .safetensors or .pt; BN "
        "statistics are calibrated (default: random weights)",
    )
    group.add_argument(
        "--calibration-batches",
        type=integer(1),
        metavar="N",
        help=f"batches that estimate the BN statistics of --init-from ({BY_DATASET})",
    )
    group.add_argument(
        "--dropout",
        type=number(0, 0.99),
        metavar="F",
        help="before the classifier (default: the search space's)",
    )
    _add_mode_flags(parser)
    add_data_flags(parser.add_argument_group("data"))
    group = parser.add_argument_group("training")
    add_recipe_flags(group, min_epochs=0)
    _add_regularisation_flags(parser)
    _add_distillation_flags(parser)
    return parser


def _add_mode_flags(parser: Parser) -> None:
    group = parser.add_argument_group("use of a trained network")
    group.add_argument(
        "--evaluate",
        type=folder,
        metavar="FILE",
        help="no training: accuracy of these weights (.safetensors or .pt)",
    )
    group.add_argument(
        "--benchmark",
        action="store_true",
        help="no training: latency and throughput on this device",
    )
    group.add_argument(
        "--export-onnx",
        type=folder,
        metavar="OUT",
        help="ONNX file, checked in onnxruntime (requirements-export.txt)",
    )
    group.add_argument(
        "--export-torch", type=folder, metavar="OUT", help="torch.export program (.pt2)"
    )


def _add_regularisation_flags(parser: Parser) -> None:
    group = parser.add_argument_group("regularisation")
    group.add_argument(
        "--ema-decay",
        type=number(0, 0.99999),
        default=0.0,
        metavar="F",
        help="average the weights with this decay per step, and use the average; 0 does not "
        "(default: the recipe, or 0)",
    )
    group.add_argument(
        "--drop-path",
        type=number(0, 0.9),
        default=0.0,
        metavar="F",
        help="stochastic depth: rate of the last residual branch (default: the recipe, or 0)",
    )
    for name in ("mixup", "cutmix"):
        group.add_argument(
            f"--{name}",
            type=number(0, 100),
            default=0.0,
            metavar="ALPHA",
            help=f"{name} with Beta(alpha, alpha); with both, each batch takes one of them at "
            "random; 0 is none (default: the recipe, or 0)",
        )


def _add_distillation_flags(parser: Parser) -> None:
    group = parser.add_argument_group("knowledge distillation")
    group.add_argument(
        "--teacher", metavar="FILE|NAME", help="architecture of a trained network to learn from"
    )
    group.add_argument(
        "--teacher-weights", type=folder, metavar="FILE", help="its .safetensors or .pt"
    )
    group.add_argument(
        "--distill-weight",
        type=number(0, 1),
        default=0.5,
        metavar="F",
        help="share of the teacher in the loss; the labels have the rest",
    )
    group.add_argument(
        "--distill-temperature",
        type=number(0, 100, open_low=True),
        default=2.0,
        metavar="T",
        help="both networks' logits are divided by it",
    )


def from_architecture(chosen: Values) -> Values:
    """Dataset and input size of a found architecture; published ones take the dataset's size.

    A benchmark needs no dataset, so it takes the architecture's size unless one is given.
    """
    if chosen.get("arch") is None:
        return {}
    from model.architecture import ARCHITECTURE_DIR, find_architecture, read_architecture

    path = find_architecture(chosen["arch"])
    spec = read_architecture(path)
    found_on = spec.get("dataset")
    values: Values = {} if found_on is None else {"dataset": found_on}
    same_data = found_on is None or chosen.get("dataset") in (None, found_on)
    no_data = chosen.get("benchmark") and "dataset" not in chosen and "evaluate" not in chosen
    if no_data or (same_data and path.parent != ARCHITECTURE_DIR):
        values["input_size"] = spec["input_size"]
    return values


def parse_subnet(parser: Parser, argv: Sequence[str]) -> Namespace:
    """The flags of train_subnet.py, all layers applied.

    Raises:
        ValueError: a file is not usable, or flags that need each other are not all given.
    """
    args = parse(parser, argv, (RECIPES, SUBNET_RECIPES), from_architecture)
    if args.list_architectures:
        return args
    if args.arch is None:
        raise ValueError(
            "--arch is missing: a best_architecture.yaml, or a name that --list-architectures shows"
        )
    if (args.teacher is None) != (args.teacher_weights is None):
        raise ValueError("--teacher and --teacher-weights belong together; give both or neither")
    training = args.evaluate is None and not args.benchmark
    if training and args.epochs == 0 and args.init_from is None:
        raise ValueError("--epochs 0 evaluates the weights of --init-from; give that too")
    return args
