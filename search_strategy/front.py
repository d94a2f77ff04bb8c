"""The Pareto front of all candidates of a search, as a table and one architecture file each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import yaml

from search_strategy.history import History, candidate_facts, candidates_csv
from utils import statistics


def pareto_front(history: History, objectives: Sequence[str]) -> np.ndarray:
    """Indices of the candidates that none beats in top-1 and all costs, by the first cost.

    Of several with the same numbers the first evaluated.
    """
    costs = [history.cost(metric) for metric in objectives]
    return statistics.pareto_front(np.column_stack([*costs, -history.top1]))


def save_front(
    folder: Path,
    history: History,
    objectives: Sequence[str],
    source: str,
    write: Callable[[Path, str], None],
) -> int:
    """pareto_front.csv and pareto_front/NNN.yaml, numbered by its index column.

    Returns:
        How many networks are on the front.
    """
    front = pareto_front(history, objectives)
    architectures = history.architectures[front]
    numbers = {"index": range(len(front)), "candidate": front.tolist()}
    scores = {"top1": history.top1[front].tolist()}
    text = candidates_csv(history.space, history.table, architectures, numbers, scores)
    write(folder / "pareto_front.csv", text)
    (folder / "pareto_front").mkdir(exist_ok=True)
    for i, (architecture, top1) in enumerate(zip(architectures, scores["top1"], strict=True)):
        facts = candidate_facts(history.space, history.table, architecture, top1)
        facts["source"] = source
        write(folder / "pareto_front" / f"{i:03d}.yaml", yaml.safe_dump(facts, sort_keys=False))
    return len(front)
