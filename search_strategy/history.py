"""The loop of ask, evaluate and tell, and the table of all candidates it leaves behind."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from lookup_table import METRICS, LookupTable
from model import SearchSpace


class SearchStrategy(Protocol):
    """What the loop needs of a strategy."""

    total: int

    def ask(self) -> np.ndarray: ...

    def tell(self, architectures: np.ndarray, scores: np.ndarray) -> None: ...


class History:
    """Candidates in the order of evaluation: architectures [N, L], rounds [N], top1 [N] in %."""

    def __init__(self, space: SearchSpace, table: LookupTable) -> None:
        self.space = space
        self.table = table
        self.architectures = np.empty((0, space.num_layers), dtype=np.int64)
        self.rounds = np.empty(0, dtype=np.int64)
        self.top1 = np.empty(0)

    def __len__(self) -> int:
        return len(self.top1)

    def add(self, architectures: np.ndarray, top1: np.ndarray) -> None:
        """Append the candidates of the next round."""
        number = self.rounds[-1] + 1 if len(self) else 0
        self.architectures = np.concatenate([self.architectures, architectures])
        self.rounds = np.concatenate([self.rounds, np.full(len(top1), number)])
        self.top1 = np.concatenate([self.top1, top1])

    def cost(self, metric: str) -> np.ndarray:
        """int64 [N], in single MACs or params."""
        return self.table.cost(self.architectures, metric)

    def best(self, metric: str) -> int:
        """Index of the highest top-1; of equals the one with the lowest cost, then the first."""
        return int(np.lexsort((self.cost(metric), -self.top1))[0])

    def to_csv(self) -> str:
        """index, round, architecture, flops, params, top1: one line per candidate."""
        costs = [self.cost(metric).tolist() for metric in METRICS]
        names = [" ".join(self.space.decode(a)) for a in self.architectures]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["index", "round", "architecture", *METRICS, "top1"])
        rows = zip(self.rounds.tolist(), names, *costs, self.top1.tolist(), strict=True)
        for i, (number, name, *numbers) in enumerate(rows):
            writer.writerow([i, number, name, *numbers])  # floats in full: read back as they were
        return text.getvalue()


def read_scores(path: Path, space: SearchSpace) -> dict[tuple[int, ...], float]:
    """Architecture -> top-1 from a history.csv.

    Raises:
        ValueError: damaged, or of another space.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        names = [(row["architecture"].split(" "), float(row["top1"])) for row in rows]
        return {tuple(space.encode(a).tolist()): top1 for a, top1 in names}
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it to search anew") from error


def run_search(
    strategy: SearchStrategy,
    evaluate: Callable[[np.ndarray], np.ndarray],
    history: History,
    on_round: Callable[[], None] = lambda: None,
) -> None:
    """Ask, evaluate, tell and add to the history, round by round, until nothing is asked."""
    while len(architectures := strategy.ask()):
        scores = evaluate(architectures)
        strategy.tell(architectures, scores)
        history.add(architectures, scores)
        on_round()
