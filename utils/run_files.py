"""Files of runs: config.yaml, best_architecture.yaml, splits.npz and the tables (*.csv)."""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.files import write_text
from utils.metrics import METRICS, Metric, accuracy_name, metric_of
from utils.yaml_file import read_yaml

NOT_COSTS = ("index", "round", "architecture", "smoothed", "score", "top1")  # of history.csv
TRAINING_FILE = "training.csv"  # of a supernet's training, a row per epoch


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
class Run:
    """Files of a finished run: all that a trained network has, and a search among others."""

    folder: Path
    config: dict[str, Any]  # flags by their names on the command line
    best: dict[str, Any]  # best_architecture.yaml

    @property
    def images(self) -> dict[str, int]:
        """Images in each part of the data, where it is known."""
        return count_images(self.folder)


@dataclass(frozen=True)
class SearchRun(Run):
    """Files of a finished search."""

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

    def scored_by(self) -> tuple[Path, int | None, int]:
        """Key of runs whose accuracies are comparable: supernet or benchmark, and images.

        Returns:
            Its file, the number of validation images and their checksum (0: it is not known).
        """
        if (oracle := self.config.get("oracle")) is not None:
            return Path(oracle).resolve(), None, 0
        supernet = Path(self.config.get("checkpoint") or self.folder / "supernet.pt")
        beside = self.folder.parent / supernet.parent.name / supernet.name
        if not supernet.exists() and beside.exists():  # seen from another folder, or moved
            supernet = beside
        splits = _read_splits(self.folder)
        parts = [splits[name].tobytes() for name in ("fingerprint", "validation") if name in splits]
        return supernet.resolve(), self.images.get("validation"), zlib.crc32(b"".join(parts))

    def budget_text(self) -> str:
        """Format all its limits in their units."""
        best = self.best
        ends = {"max": best.get("target_hc"), "min": best.get("min_hc")}
        limits = {best.get("info_metric", "flops"): ends} | best.get("limits", {})
        return ", ".join(
            f"{self.metric(key).name} {sign} {self.metric(key).show(ends[end])}"
            for key, ends in limits.items()
            for end, sign in (("max", "≤"), ("min", "≥"))
            if ends.get(end) is not None
        )


def _read_splits(folder: Path) -> dict[str, np.ndarray]:
    path = folder / "splits.npz"
    if not path.exists():
        return {}
    with np.load(path) as splits:
        return dict(splits)


def count_images(folder: Path) -> dict[str, int]:
    """Images in train, validation and test, by the folder's splits.npz; empty without one."""
    return {name: len(rows) for name, rows in _read_splits(folder).items() if rows.ndim}


def _read_mapping(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    content = read_yaml(path)
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise ValueError(f"{path} is damaged: key '{missing[0]}' is missing")
    return content


def read_config(folder: Path, *keys: str) -> dict[str, Any]:
    """Read the flags of a run. Raises ValueError where they are damaged or missing.

    Args:
        keys: further flags that must be there.
    """
    return _read_mapping(folder / "config.yaml", ("dataset", "random-seed", *keys))


def _read_best(folder: Path) -> dict[str, Any]:
    keys = "choices", "flops", "params", "top1"
    return _read_mapping(folder / "best_architecture.yaml", keys)


def read_trained(folder: Path) -> Run:
    """Read the files of a trained network. Raises as `read_run`."""
    return Run(folder, read_config(folder), _read_best(folder))


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
        read_config(folder, "search-space"),
        _read_best(folder),
        read_candidates(folder / "history.csv"),
        read_candidates(control) if control.exists() else None,
        {str(spec["metric"]): str(spec["unit"])} if spec.get("unit") else {},
    )


def _read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_candidates(path: Path) -> Candidates:
    """Read a history.csv. Raises ValueError where it is none."""
    try:
        rows = _read_rows(path)

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


def add_epoch(path: Path, done: int, numbers: Mapping[str, float]) -> None:
    """Write the numbers of an epoch, counted from 1, to training.csv.

    Rows of it or later ones are replaced: a training went on from a checkpoint before them.
    """
    old = _read_rows(path) if path.exists() else []
    rows: list[Mapping[str, object]] = [row for row in old if int(row["epoch"]) < done]
    rows.append({"epoch": done, **numbers})
    text = io.StringIO()
    columns = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_epochs(folder: Path) -> dict[str, np.ndarray]:
    """Read the columns of a run's training.csv, float [E], NaN where there is no number.

    There are none in a run that trained no supernet.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / TRAINING_FILE
    try:
        rows = _read_rows(path) if path.exists() else []
        names = rows[0] if rows else ()
        return {n: np.array([float(row[n] or "nan") for row in rows]) for n in names}
    except (TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it") from error
