"""Reading the folder of a finished search: config.yaml, best_architecture.yaml, *.csv."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.yaml_file import read_yaml


@dataclass(frozen=True)
class Metric:
    """How a cost column is shown: value * scale, in `unit`."""

    name: str
    unit: str
    scale: float

    def show(self, cost: float) -> str:
        return f"{cost * self.scale:,.3f} {self.unit}"

    @property
    def label(self) -> str:
        return f"{self.name} ({self.unit})"


COSTS = {
    "flops": Metric("MACs", "M", 1e-6),
    "params": Metric("params", "M", 1e-6),
    "latency": Metric("latency", "ms", 1.0),
}


@dataclass(frozen=True)
class Candidates:
    """The rows of history.csv as columns, in the order of evaluation. Legend: N candidates.

    Attributes:
        architectures: choice names of each.
        rounds: int [N].
        costs: the columns of COSTS that the file has, float [N], as stored.
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
    """What a finished search left behind."""

    folder: Path
    config: dict[str, Any]  # flags by their names on the command line
    best: dict[str, Any]  # best_architecture.yaml
    history: Candidates
    control: Candidates | None  # random_control.csv, where there is one


def read_candidates(path: Path) -> Candidates:
    """Raises ValueError where the file is not a history."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))

        def column(name: str) -> np.ndarray:
            return np.array([float(row[name]) for row in rows])

        present = [name for name in COSTS if rows and rows[0].get(name) not in (None, "")]
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


def _read_mapping(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    content = read_yaml(path)
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise ValueError(f"{path} is damaged: key '{missing[0]}' is missing")
    return content


def read_config(folder: Path) -> dict[str, Any]:
    """The flags of a run. Raises ValueError where they are damaged or missing."""
    return _read_mapping(folder / "config.yaml", ("search-space", "dataset", "random-seed"))


def read_run(folder: Path) -> SearchRun:
    """A finished search's files.

    Raises:
        ValueError: a file is damaged.
        OSError: a file is missing.
    """
    control = folder / "random_control.csv"
    return SearchRun(
        folder,
        read_config(folder),
        _read_mapping(folder / "best_architecture.yaml", ("choices", "flops", "params", "top1")),
        read_candidates(folder / "history.csv"),
        read_candidates(control) if control.exists() else None,
    )
