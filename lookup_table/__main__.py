"""What an architecture costs, or what a search space holds.

python -m lookup_table --arch runs/digits/best_architecture.yaml
python -m lookup_table --search-space fbnet --input-size 32 --num-classes 10
python -m lookup_table --search-space spos --table
"""

from __future__ import annotations

import json
from argparse import Namespace

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from config_file.arg_config.table_config import table_parser
from lookup_table.builder import load_table
from lookup_table.table import METRICS, LookupTable, in_millions
from model import SearchSpace, Subnet, architecture_facts, count_params, load_architecture
from model import load_space as build_space
from utils.errors import user_errors


def load_inputs(args: Namespace) -> tuple[SearchSpace, np.ndarray | None]:
    """The space, and with --arch its architecture, int [L].

    Raises:
        ValueError: a file is unusable, or a flag contradicts it.
    """
    if args.arch is None:
        size, classes = args.input_size or 224, args.num_classes or 1000
        return build_space(args.search_space or "proxylessnas", size, classes, args.widths), None
    space, architecture = load_architecture(args.arch)
    stored = {
        "search_space": space.name,
        "input_size": space.input_size,
        "num_classes": space.num_classes,
        "widths": list(space.widths),
    }
    for name, value in stored.items():
        if (given := getattr(args, name)) is not None and given != value:
            flag = name.replace("_", "-")
            raise ValueError(f"{args.arch} is of {flag} {value}, not {given}; mend --{flag}")
    return space, architecture


def measure(space: SearchSpace, architecture: np.ndarray) -> dict[str, int]:
    """MACs and params of the whole standalone network, by PyTorch's own counter.

    It counts convolutions and matrix products at two FLOPs per multiply-accumulate.
    """
    subnet = Subnet(space, architecture).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        subnet(torch.zeros(1, 3, space.input_size, space.input_size))
    return {"flops": counter.get_total_flops() // 2, "params": count_params(subnet)}


def summary(space: SearchSpace, table: LookupTable, architecture: np.ndarray | None) -> dict:
    """What is printed as JSON."""
    if architecture is not None:
        costs = {metric: int(table.cost(architecture, metric)) for metric in METRICS}
        facts = architecture_facts(space, architecture)
        return {**costs, "measured": measure(space, architecture), **facts}
    return {
        "search_space": space.name,
        "input_size": space.input_size,
        "num_classes": space.num_classes,
        "layers": space.num_layers,
        "architectures": space.size,
        **{metric: list(table.range(metric)) for metric in METRICS},
    }


def print_table(space: SearchSpace, table: LookupTable, architecture: np.ndarray | None) -> None:
    """Every choice of every layer with its costs in millions; the chosen one is marked."""
    print(f"{space.name} at {space.input_size} px, {space.num_classes} classes")
    print(
        f"{'layer':>5}  {'channels':>10}  {'px':>10}  {'choice':<12}{'M MACs':>12}{'M params':>12}"
    )
    for i, layer in enumerate(space.layers):
        out_size = -(-layer.in_size // layer.stride)
        where = f"{i + 1:>5}  {f'{layer.in_chs}→{layer.out_chs}':>10}  "
        where += f"{f'{layer.in_size}→{out_size}':>10}  "
        for c, name in enumerate(layer.choices):
            macs, params = (in_millions(table.costs[metric][i, c]) for metric in METRICS)
            chosen = "*" if architecture is not None and architecture[i] == c else " "
            print(f"{where}{chosen + name:<12}{macs:>12}{params:>12}")
            where = " " * len(where)
    fixed = [in_millions(table.fixed[metric]) for metric in METRICS]
    print(f"{'stem, first block, head':<31} {'':<11}{fixed[0]:>12}{fixed[1]:>12}")
    if architecture is not None:
        total = [in_millions(table.cost(architecture, metric)) for metric in METRICS]
        print(f"{'this architecture (*)':<31} {'':<11}{total[0]:>12}{total[1]:>12}")
    for name, end in (("cheapest", 0), ("dearest", 1)):
        costs = [in_millions(table.range(metric)[end]) for metric in METRICS]
        print(f"{name:<31} {'':<11}{costs[0]:>12}{costs[1]:>12}")
    print(f"{space.size:,} architectures")


@user_errors
def main() -> None:
    args = table_parser(__doc__).parse_args()
    space, architecture = load_inputs(args)
    table = load_table(space, args.cache_dir)
    if args.table:
        print_table(space, table, architecture)
    else:
        print(json.dumps(summary(space, table, architecture), indent=2))


if __name__ == "__main__":
    main()
