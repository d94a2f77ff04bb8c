"""All costs that a run needs: counted, brought by the user, or measured."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from lookup_table.builder import load_table
from lookup_table.latency import LatencySettings, load_latency
from lookup_table.memory import MEMORY_METRICS, add_memory
from lookup_table.table import LookupTable
from lookup_table.user_table import read_user_table
from model.space import SearchSpace


def load_costs(
    space: SearchSpace,
    wanted: Iterable[str],
    cache_dir: Path | None,
    file: Path | None,
    device: torch.device,
    settings: LatencySettings,
    memory_dtype: str = "float32",
) -> LookupTable:
    """flops and params, the metric of `file`, and latency measured where it is wanted.

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
    if file is not None:
        table = read_user_table(file, space, table)
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
