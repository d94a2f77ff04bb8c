"""Build the lookup table with thop, one profile per distinct block, and keep it in a cache.

`load_costs` adds the metrics that a user brings or that are measured here. The cache file's name is
a hash of everything the table depends on, and its content repeats it, so a table is never read back
for another space, width, input size or class count.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lookup_table.blocks import costs_of, distinct_blocks
from lookup_table.latency import LatencySettings, measure_latency, source
from lookup_table.memory import MEMORY_METRICS, add_memory
from lookup_table.table import LookupTable
from lookup_table.user_table import kept_beside, read_user_table, user_table_text
from model.space import SearchSpace
from model.subnet import count_params
from utils.files import write_text
from utils.metrics import METRICS

log = logging.getLogger("oneshot_nas")
FORMAT = 2  # raise it whenever the way of counting changes: old cache files are then left alone


def count_macs(module: nn.Module, in_chs: int, size: int) -> int:
    """Count MACs of Conv2d and Linear for one image [in_chs, size, size] by thop."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # thop uses a deprecated version class
        from thop import profile  # 0.3 s that `--help` should not wait for

    # thop counts BN, pooling and activations by default; papers count convs and linear layers
    others = {type(m) for m in module.modules() if not isinstance(m, (nn.Conv2d, nn.Linear))}
    silent = dict.fromkeys(others, lambda module, inputs, output: None)
    image = torch.zeros(1, in_chs, size, size)
    macs, _ = profile(module.eval(), inputs=(image,), custom_ops=silent, verbose=False)
    return int(macs)  # thop sums in float64: exact below 2^53


@torch.random.fork_rng(devices=[])  # a run must not depend on whether its table is cached
def build_table(space: SearchSpace) -> LookupTable:
    """Profile the space's fixed parts and every choice of every layer."""
    blocks = distinct_blocks(space)
    params, fixed_params = costs_of(space, blocks, [count_params(b.module) for b in blocks])
    # thop adds buffers to modules, so it comes second
    macs, fixed_macs = costs_of(space, blocks, [count_macs(b.module, *b.shape[:2]) for b in blocks])
    fixed = {"flops": sum(fixed_macs), "params": sum(fixed_params)}
    return LookupTable({"flops": macs, "params": params}, fixed, space.num_choices)


def load_table(space: SearchSpace, cache_dir: str | Path | None = None) -> LookupTable:
    """Return the space's table: from the cache if it is there and whole, else built and cached."""
    if cache_dir is None:
        return build_table(space)
    key = {
        "format": FORMAT,
        "space": space.fingerprint,
        "widths": list(space.widths),
        "input_size": space.input_size,
        "num_classes": space.num_classes,
        "metrics": list(METRICS),
    }
    path = Path(cache_dir) / f"{_digest(key)[:20]}.json"
    if (table := _read(path, key, space)) is not None:
        return table
    table = build_table(space)
    costs = {metric: rows.tolist() for metric, rows in table.costs.items()}
    checksum = _digest([costs, table.fixed])
    content = {"key": key, "costs": costs, "fixed": table.fixed, "sha256": checksum}
    _keep(path, json.dumps(content))
    return table


def _keep(path: Path, text: str) -> None:
    """Write a table to the cache, which colleagues may share read-only."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        reason = error.strerror or error
        log.info(f"note: the lookup table is not kept in {path.parent} ({reason})")


def _read(path: Path, key: dict, space: SearchSpace) -> LookupTable | None:
    """Return the cached table, or None where the file is missing, damaged or of something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        costs, fixed = content["costs"], content["fixed"]
        if content["key"] != key or content["sha256"] != _digest([costs, fixed]):
            return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    arrays = {metric: np.array(rows, dtype=np.int64) for metric, rows in costs.items()}
    return LookupTable(arrays, fixed, space.num_choices)


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load_costs(
    space: SearchSpace,
    wanted: Iterable[str],
    cache_dir: Path | None,
    file: Path | None,
    settings: LatencySettings,
    memory_dtype: str = "float32",
) -> LookupTable:
    """Count flops and params, read the metric of `file`, measure or count what else is wanted.

    Args:
        wanted: the metrics that the run uses.
        file: what --lookup-table names, or None.
        settings: of a measurement of latency.
        memory_dtype: int8 or float32, that peak_memory and weights are counted for.

    Raises:
        ValueError: a metric is wanted that is neither known nor in the file.
    """
    table = load_table(space, cache_dir)
    for path in () if file is None else (file, *kept_beside(file)):
        table = read_user_table(path, space, table)
    for metric in wanted:
        if metric in table.metrics:
            continue
        if metric == "latency":
            table = load_latency(space, table, settings, cache_dir)
        elif metric in MEMORY_METRICS:
            table = add_memory(space, table, memory_dtype)
        else:
            known = ", ".join(dict.fromkeys((*table.metrics, "latency", *MEMORY_METRICS)))
            raise ValueError(
                f"metric '{metric}' is unknown; take one of {known}, or bring a --lookup-table"
            )
    return table


def load_latency(
    space: SearchSpace,
    table: LookupTable,
    settings: LatencySettings,
    cache_dir: Path | None,
) -> LookupTable:
    """Measure the latency of all blocks, or read an earlier measurement with equal settings."""
    if cache_dir is None:
        return measure_latency(space, table, settings)
    facts = source(settings)
    key = {**facts, "fingerprint": space.fingerprint, "space": space.name}
    path = Path(cache_dir) / f"latency_{_digest(key)[:20]}.yaml"
    try:
        known = read_user_table(path, space, table)
        if known.sources["latency"].items() >= facts.items():  # it states more, such as its file
            return known
    except (ValueError, OSError, KeyError):
        pass  # not measured yet, or damaged
    table = measure_latency(space, table, settings)
    _keep(path, user_table_text(space, table, "latency"))
    return table
