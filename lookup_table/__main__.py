r"""Print the costs of an architecture or of a search space; measure, import and export tables.

python -m lookup_table --arch runs/digits/best_architecture.yaml
python -m lookup_table --search-space fbnet --input-size 32 --num-classes 10
python -m lookup_table --search-space spos --table
python -m lookup_table --search-space fbnet --dataset digits --latency --save cpu.yaml
python -m lookup_table --search-space fbnet --lookup-table phone.yaml --table
python -m lookup_table --list-tables
python -m lookup_table --arch FILE --lookup-table pixel3
python -m lookup_table --search-space proxylessnas --import proxyless_lut lut.yaml --save phone.yaml
python -m lookup_table --search-space fbnet --dataset digits --export-blocks blocks
python -m lookup_table --search-space fbnet --dataset digits --import block_times blocks/times.csv \
    --save phone.yaml
"""

from __future__ import annotations

from utils.startup import start_up

if __name__ == "__main__":  # before the imports that take a while
    start_up()

from config_file.arg_config.fields import answer_help, make_parser, take
from config_file.arg_config.table_config import GivenConfig, TableConfig

if __name__ == "__main__":  # before those that take seconds
    answer_help(TableConfig, __doc__)

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from config_file.arg_config.run_config import RECIPES
from data.datasets import DATASETS
from lookup_table import Budget, BudgetCounts, Equivalence, LookupTable
from lookup_table.blocks import INDEX_FILE, export_blocks
from lookup_table.builder import load_table
from lookup_table.importers import import_table
from lookup_table.latency import measure_latency, rank_note, validate, validation_text
from lookup_table.memory import add_memory
from lookup_table.user_table import list_tables, read_user_table, user_table_text
from model import SearchSpace, Subnet, architecture_record, count_params, load_architecture
from model import load_space as build_space
from utils.device import pick_device
from utils.errors import user_errors
from utils.files import write_text
from utils.metrics import METRICS, MILLION, in_millions
from utils.run_folder import log, start_log
from utils.yaml_file import read_yaml


def load_inputs(given: GivenConfig) -> tuple[SearchSpace, np.ndarray | None]:
    """Load the space, and with --arch its architecture, int [L]; a contradiction is an error."""
    if given.arch is None:
        size, classes = given.input_size or 224, given.num_classes or 1000
        if given.dataset:
            if given.num_classes:
                raise ValueError("--dataset says the number of classes; leave --num-classes out")
            recipe = read_yaml(RECIPES / f"{given.dataset}.yaml")
            size = given.input_size or int(recipe["input-size"])
            classes = len(DATASETS[given.dataset](given.data_path).classes)
        return build_space(given.search_space or "proxylessnas", size, classes, given.widths), None
    space, architecture = load_architecture(given.arch)
    size, classes = space.input_size, space.num_classes
    facts: list[tuple[str, object, object]] = [
        ("input-size", size, given.input_size),
        ("num-classes", classes, given.num_classes),
        ("widths", space.widths, given.widths),
    ]
    for flag, value, wanted in facts:
        if wanted not in (None, value):  # a flag may repeat what the file says
            raise ValueError(f"{given.arch} is of {flag} {value}, not {wanted}; fix --{flag}")
    if given.search_space is not None:
        other = build_space(given.search_space, size, classes, given.widths)
        if other.fingerprint != space.fingerprint:
            raise ValueError(
                f"{given.arch} is of search-space {space.name}, not {given.search_space} as it is "
                f"now; fix --search-space or leave it out"
            )
    return space, architecture


def measure(space: SearchSpace, architecture: np.ndarray) -> dict[str, int]:
    """Count MACs and params of the whole standalone network by PyTorch's own counter."""
    subnet = Subnet(space, architecture).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        subnet(torch.zeros(1, 3, space.input_size, space.input_size))
    # of convolutions and matrix products, at two FLOPs per multiply-accumulate
    return {"flops": counter.get_total_flops() // 2, "params": count_params(subnet)}


def summary(space: SearchSpace, table: LookupTable, architecture: np.ndarray | None) -> dict:
    """Collect facts to print as JSON: single MACs and params, other metrics in their unit."""
    if architecture is not None:
        facts = architecture_record(space, architecture) | {"search_space": space.name}
        return {**table.facts(architecture), "measured": measure(space, architecture), **facts}
    ranges = {
        metric: [cost if metric in METRICS else cost / MILLION for cost in table.range(metric)]
        for metric in table.metrics
    }
    return {
        "search_space": space.name,
        "input_size": space.input_size,
        "num_classes": space.num_classes,
        "layers": space.num_layers,
        "architectures": space.size,
        "networks": Equivalence(space).size,
        **ranges,
    }


def print_table(space: SearchSpace, table: LookupTable, architecture: np.ndarray | None) -> None:
    """Print all choices of all layers with their costs; the chosen ones are marked."""

    def line(name: str, costs: Iterable[int]) -> None:
        print(f"{name:<43}" + "".join(f"{in_millions(cost):>15}" for cost in costs))

    print(f"{space.name} at {space.input_size} px, {space.num_classes} classes")
    titles = "".join(f"{table.unit(metric):>15}" for metric in table.metrics)
    print(f"{'layer':>5}  {'channels':>10}  {'px':>10}  {'choice':<12}{titles}")
    for i, layer in enumerate(space.layers):
        channels = f"{layer.in_chs}→{layer.out_chs}"
        sizes = f"{layer.in_size}→{-(-layer.in_size // layer.stride)}"
        where = f"{i + 1:>5}  {channels:>10}  {sizes:>10}  "
        for c, name in enumerate(layer.choices):
            chosen = "*" if architecture is not None and architecture[i] == c else " "
            line(f"{where}{chosen}{name}", [table.costs[m][i, c] for m in table.metrics])
            where = " " * len(where)
    line("stem, first block, head", table.fixed.values())
    if architecture is not None:
        line("this architecture (*)", [int(table.cost(architecture, m)) for m in table.metrics])
    lowest, highest = zip(*(table.range(metric) for metric in table.metrics), strict=True)
    line("cheapest", lowest)
    line("most expensive", highest)
    print(f"{space.size:,} architectures, {Equivalence(space).size:,} different networks")


def add_latency(
    config: TableConfig, space: SearchSpace, table: LookupTable, architecture: np.ndarray | None
) -> tuple[LookupTable, dict]:
    """Measure blocks and whole networks: the given architecture, or random ones."""
    settings = config.source.settings(pick_device(config.measure.device))
    table = measure_latency(space, table, settings)
    if architecture is not None:
        networks = architecture[None]
    else:
        budget = Budget(BudgetCounts(table, "latency", Equivalence(space)), None, None)
        networks = budget.sample(config.measure.latency_networks, np.random.default_rng(0))
    measured: dict = {"latency_source": dict(table.sources["latency"])}
    if len(networks):
        report = validate(space, table, networks, settings)
        if note := rank_note(report["spearman"]):
            log.info(f"note: {note}")
        table.sources["latency"] |= {
            "validation": {k: v for k, v in report.items() if "_ms" not in k},  # not each network's
            "exactness": validation_text(report),  # what searches on other devices state
        }
        measured["latency_against_whole_networks"] = report
    return table, measured


@user_errors
def main() -> None:
    start_log(stream=sys.stderr)
    config = take(TableConfig, make_parser(TableConfig, __doc__).parse_args())
    config.check()
    if config.list_tables:
        print(list_tables())
        return
    space, architecture = load_inputs(config.given)
    if config.export_blocks:
        number = export_blocks(space, config.export_blocks)
        print(f"{number} blocks and {INDEX_FILE} in {config.export_blocks}; see docs/devices.md")
        return
    table = load_table(space, config.cache_dir)
    if config.measure.memory:
        table = add_memory(space, table, config.measure.memory)
    measured: dict = {}
    saved = ""
    if config.source.lookup_table:
        table = read_user_table(config.source.lookup_table, space, table)
        for metric, source in table.sources.items():
            if "fixed_part" in source:
                measured[f"{metric}_fixed_part"] = source["fixed_part"]
    if config.measure.import_file:
        form, file = config.measure.import_file
        table, saved = import_table(form, Path(file), space, table, config.measure.import_metric)
    if config.measure.latency:
        table, timed = add_latency(config, space, table, architecture)
        measured, saved = measured | timed, "latency"
    if config.measure.save:  # `check` saw to it that there is something to save
        write_text(config.measure.save, user_table_text(space, table, saved))
    if config.table:
        print_table(space, table, architecture)
    else:
        print(json.dumps(summary(space, table, architecture) | measured, indent=2))


if __name__ == "__main__":
    main()
