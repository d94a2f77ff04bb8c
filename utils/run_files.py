"""Reading the folder of a finished search: config.yaml, best_architecture.yaml, *.csv."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.metrics import METRICS, Metric, accuracy_name, metric_of
from utils.yaml_file import read_yaml

NOT_COSTS = ("index", "round", "architecture", "smoothed", "score", "top1")  # of history.csv


@dataclass(frozen=True)
class Candidates:
    """The rows of history.csv as columns, in the order of evaluation. Legend: N candidates.

    Attributes:
        architectures: choice names of each.
        rounds: int [N].
        costs: all columns that are costs, float [N], as stored.
        top1: percent, float [N].
    """

    architectures: list[list[str]]
    rounds: np.ndarray
    costs: dict[str, np.ndarray]
    top1: np.ndarray

    def __len__(self) -> int:
        return len(self.top1)


@dataclass(frozen=True)
class SearchRun:
    """Files of a finished search."""

    folder: Path
    config: dict[str, Any]  # flags by their names on the command line
    best: dict[str, Any]  # best_architecture.yaml
    history: Candidates
    control: Candidates | None  # random_control.csv, where there is one
    units: dict[str, str]  # of metrics that lookup_table.yaml brings

    @property
    def accuracy(self) -> str:
        """Name of its top-1: validation top-1, or a benchmark's true accuracy."""
        return accuracy_name(self.config.get("oracle"))

    def metric(self, name: str) -> Metric:
        """Name, unit and scale of one of its costs."""
        return metric_of(name, self.units.get(name))


def read_candidates(path: Path) -> Candidates:
    """Read a history.csv. Raises ValueError where it is none."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))

        def column(name: str) -> np.ndarray:
            return np.array([float(row[name]) for row in rows])

        present = [n for n in (rows[0] if rows else ()) if n not in NOT_COSTS and rows[0][n]]
        candidates = Candidates(
            architectures=[row["architecture"].split(" ") for row in rows],
            rounds=column("round").astype(np.int64),
            costs={name: column(name) for name in present},
            top1=column("top1"),
        )
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged ({error})") from error
    if not len(candidates):
        raise ValueError(f"{path} holds no candidates")
    return candidates


def count_images(folder: Path) -> dict[str, int]:
    """Images in train, validation and test, by the folder's splits.npz; empty without one."""
    path = folder / "splits.npz"
    if not path.exists():
        return {}
    with np.load(path) as splits:
        return {name: len(splits[name]) for name in splits.files if splits[name].ndim}


def _read_mapping(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    content = read_yaml(path)
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise ValueError(f"{path} is damaged: key '{missing[0]}' is missing")
    return content


def read_config(folder: Path) -> dict[str, Any]:
    """Read the flags of a run. Raises ValueError where they are damaged or missing."""
    return _read_mapping(folder / "config.yaml", ("search-space", "dataset", "random-seed"))


def read_run(folder: Path) -> SearchRun:
    """Read the files of a finished search.

    Raises:
        ValueError: a file is damaged.
        OSError: a file is missing.
    """
    control = folder / "random_control.csv"
    table = folder / "lookup_table.yaml"
    spec = _read_mapping(table, ("metric",)) if table.exists() else {}
    return SearchRun(
        folder,
        read_config(folder),
        _read_mapping(folder / "best_architecture.yaml", ("choices", "flops", "params", "top1")),
        read_candidates(folder / "history.csv"),
        read_candidates(control) if control.exists() else None,
        {str(spec["metric"]): str(spec["unit"])} if spec.get("unit") else {},
    )


def metrics_of(runs: Sequence[SearchRun]) -> list[Metric]:
    """List all costs that the runs have recorded. Raises ValueError where their units differ."""
    found = {key: metric_of(key) for key in (*METRICS, "latency")}
    seen: dict[str, str] = {}  # metric -> unit
    for run in runs:
        for key in run.history.costs:
            found[key] = metric = run.metric(key)
            if seen.setdefault(key, metric.unit) != metric.unit:
                raise ValueError(f"the runs have {key} in {seen[key]} and in {metric.unit}")
    return list(found.values())
