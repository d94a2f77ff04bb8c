"""training.csv of a run folder: a row of numbers for each epoch of a supernet's training."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from utils.files import write_text

TRAINING_FILE = "training.csv"


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def add_epoch(path: Path, done: int, numbers: Mapping[str, float]) -> None:
    """Write the numbers of an epoch, counted from 1; rows of it or later ones are replaced.

    Such rows are there where a training went on from a checkpoint of an earlier epoch.
    """
    rows: list[Mapping[str, object]] = [r for r in _read_rows(path) if int(r["epoch"]) < done]
    rows.append({"epoch": done, **numbers})
    text = io.StringIO()
    columns = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_epochs(folder: Path) -> dict[str, np.ndarray]:
    """The columns of a run's training.csv, float [E], NaN where there is no number.

    There are none in a run that trained no supernet.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / TRAINING_FILE
    try:
        rows = _read_rows(path)
        names = rows[0] if rows else ()
        return {n: np.array([float(row[n] or "nan") for row in rows]) for n in names}
    except (TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it") from error
