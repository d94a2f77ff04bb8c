"""Builds the lookup table with thop, one profile per distinct block, and keeps it in a cache.

`load_costs` adds the metrics that a user brings or that are measured here.

The cache file's name is a hash of everything the table depends on, and its content repeats it, so
a table is never read back for another space, width, input size or class count.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lookup_table.blocks import costs_of, distinct_blocks
from lookup_table.latency import LatencySettings, source
from lookup_table.memory import MEMORY_METRICS, add_memory
from lookup_table.table import LookupTable
from lookup_table.user_table import kept_beside, read_user_table, user_table_text
from lookup_table.whole_networks import measure_blocks
from model.space import SearchSpace
from model.subnet import count_params
from utils.files import write_text
from utils.metrics import METRICS

log = logging.getLogger("oneshot_nas")
FORMAT = 2  # raise it whenever the way of counting changes: old cache files are then left alone


def _count_nothing(module: Any, inputs: tuple, output: object) -> None:  # total_ops is thop's
    module.total_ops += torch.zeros(1, dtype=torch.float64)


def count_macs(module: nn.Module, in_chs: int, size: int) -> int:
    """MACs of Conv2d and Linear for one image [in_chs, size, size], counted by thop."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # thop uses a deprecated version class
        from thop import profile  # 0.3 s that `--help` should not wait for

    # thop counts BN, pooling and activations by default; papers count convs and linear layers
    silent = {
        type(m): _count_nothing
        for m in module.modules()
        if not isinstance(m, (nn.Conv2d, nn.Linear))
    }
    image = torch.zeros(1, in_chs, size, size)
    macs, _ = profile(module.eval(), inputs=(image,), custom_ops=silent, verbose=False)
    return int(macs)


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
    """The space's table: from the cache if it is there and whole, else built and cached."""
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
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
    path = Path(cache_dir) / f"{digest}.json"
    table = _read(path, key, space)
    if table is None:
        table = build_table(space)
        try:
            _write(path, key, table)
        except OSError as error:  # a cache shared by colleagues may be there only to be read
            log.info(
                f"note: the lookup table is not kept in {cache_dir} ({error.strerror or error})"
            )
    return table


def load_costs(
    space: SearchSpace,
    wanted: Iterable[str],
    cache_dir: Path | None,
    file: Path | None,
    device: torch.device,
    settings: LatencySettings,
    memory_dtype: str = "float32",
) -> LookupTable:
    """Count flops and params, read the metric of `file`, measure or count what else is wanted.

    Args:
        wanted: the metrics that the run uses.
        cache_dir: where tables counted and measured before are.
        file: what --lookup-table names, or None.
        device, settings: of the measurement.
        memory_dtype: int8 or float32, that peak_memory and weights are counted for.

    Raises:
        ValueError: a metric is wanted that is neither known nor in the file.
    """
    table = load_table(space, cache_dir)
    for path in () if file is None else (file, *kept_beside(file)):
        table = read_user_table(path, space, table)
    for metric in wanted:
        if metric == "latency" and metric not in table.metrics:
            table = load_latency(space, table, device, settings, cache_dir)
        if metric in MEMORY_METRICS and metric not in table.metrics:
            table = add_memory(space, table, memory_dtype)
        if metric not in table.metrics:
            known = ", ".join(dict.fromkeys((*table.metrics, "latency", *MEMORY_METRICS)))
            raise ValueError(
                f"metric '{metric}' is unknown; take one of {known}, or bring a --lookup-table"
            )
    return table


def load_latency(
    space: SearchSpace,
    table: LookupTable,
    device: torch.device,
    settings: LatencySettings,
    cache_dir: Path | None,
) -> LookupTable:
    """Measure the latency of all blocks, or read what was measured before just so."""
    if cache_dir is None:
        return measure_blocks(space, table, device, settings)
    key = {**source(device, settings), "fingerprint": space.fingerprint, "space": space.name}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
    path = Path(cache_dir) / f"latency_{digest}.yaml"
    try:
        known = read_user_table(path, space, table)
        stored = known.sources["latency"]
        if all(stored.get(k) == v for k, v in source(device, settings).items()):
            return known
    except (ValueError, OSError, KeyError):
        pass  # not measured yet, or damaged
    table = measure_blocks(space, table, device, settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, user_table_text(space, table, "latency"))
    return table


def _read(path: Path, key: dict, space: SearchSpace) -> LookupTable | None:
    """The cached table, or None where the file is missing, damaged or of something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["key"] != key:
            return None
        if content["sha256"] != _checksum(content["costs"], content["fixed"]):
            return None
        costs = {m: np.array(content["costs"][m], dtype=np.int64) for m in METRICS}
        fixed = {m: int(content["fixed"][m]) for m in METRICS}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    shape = (space.num_layers, space.max_choices)
    if any(table.shape != shape for table in costs.values()):
        return None
    return LookupTable(costs, fixed, space.num_choices)


def _checksum(costs: dict, fixed: dict) -> str:
    text = json.dumps([costs, fixed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _write(path: Path, key: dict, table: LookupTable) -> None:
    costs = {metric: rows.tolist() for metric, rows in table.costs.items()}
    checksum = _checksum(costs, table.fixed)
    content = {"key": key, "costs": costs, "fixed": table.fixed, "sha256": checksum}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content))
