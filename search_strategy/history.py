"""The loop of ask, evaluate and tell, and the table of all candidates it leaves behind."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lookup_table import METRICS, LookupTable
from lookup_table.table import MILLION
from search_strategy.additive import smoothed
from utils.files import write_text

if TYPE_CHECKING:
    from model import SearchSpace
    from search_strategy.strategy import SearchStrategy


class History:
    """Candidates in the order of evaluation: architectures [N, L], rounds [N], top1 [N] in %.

    Args:
        top1_of: top-1 of candidates, where they are chosen by another score; None is where not.
        smooth: choose by smoothed scores.
    """

    def __init__(
        self,
        space: SearchSpace,
        table: LookupTable,
        top1_of: Callable[[np.ndarray], np.ndarray] | None = None,
        smooth: bool = False,
    ) -> None:
        self.space = space
        self.table = table
        self.architectures = np.empty((0, space.num_layers), dtype=np.int64)
        self.rounds = np.empty(0, dtype=np.int64)
        self.top1_of = top1_of
        self.smooth = smooth
        self.chosen: np.ndarray | None = None  # by a strategy that does not go by the best score
        self.scores = np.empty(0)
        self.top1 = np.empty(0)

    def __len__(self) -> int:
        return len(self.top1)

    def add(self, architectures: np.ndarray, scores: np.ndarray) -> None:
        """Append the candidates of the next round."""
        number = self.rounds[-1] + 1 if len(self) else 0
        self.architectures = np.concatenate([self.architectures, architectures])
        self.rounds = np.concatenate([self.rounds, np.full(len(scores), number)])
        self.scores = np.concatenate([self.scores, scores])
        top1 = scores if self.top1_of is None else self.top1_of(architectures)
        self.top1 = np.concatenate([self.top1, top1])

    def cost(self, metric: str) -> np.ndarray:
        """Return costs of all candidates, int64 [N], in the table's units (single MACs, ns)."""
        return self.table.cost(self.architectures, metric)

    def smoothed(self) -> np.ndarray:
        """Return the scores smoothed by `additive.smoothed`, float [N]."""
        return smoothed(self.architectures, self.scores, self.space.num_choices)

    def best(self, metric: str) -> int:
        """Return the index of the search's answer: the first of `ranking`, or its own choice."""
        if self.chosen is not None:
            return int((self.architectures == self.chosen).all(axis=1).argmax())  # the first True
        return int(self.ranking(metric)[0])

    def ranking_scores(self) -> np.ndarray:
        """Return the scores that candidates are ranked by, float [N]."""
        return self.smoothed() if self.smooth else self.scores

    def ranking(self, metric: str) -> np.ndarray:
        """Return indices [N] by score, the highest first; of equals the lowest cost first."""
        return np.lexsort((self.cost(metric), -self.ranking_scores()))  # last key first; stable

    def winner_facts(self, metric: str) -> dict:
        """Return the answer's entries of an architecture file."""
        best = self.best(metric)
        top1 = float(self.top1[best])
        return candidate_facts(self.space, self.table, self.architectures[best], top1)

    def to_csv(self) -> str:
        """Format a line per candidate: index, round, `candidates_csv`, (smoothed, score,) top1."""
        smooth = {"smoothed": self.smoothed().tolist()} if self.smooth else {}
        score = {} if self.top1_of is None else {"score": self.scores.tolist()}
        first = {"index": range(len(self)), "round": self.rounds.tolist()}
        last = smooth | score | {"top1": self.top1.tolist()}
        return candidates_csv(self.space, self.table, self.architectures, first, last)

    def round_scalars(self) -> dict[str, float]:
        """Return best, mean and worst of the last round, for TensorBoard."""
        last = self.rounds == self.rounds[-1]
        top1, mflops = self.top1[last], self.cost("flops")[last] / MILLION
        scalars = {}
        for name, values in (("top1", top1), ("mflops", mflops)):
            scalars[f"{name}_best"] = values[top1.argmax()]  # of the best by top-1, also for mflops
            scalars[f"{name}_mean"] = values.mean()
            scalars[f"{name}_worst"] = values[top1.argmin()]
        return scalars


def candidate_facts(
    space: SearchSpace, table: LookupTable, architecture: np.ndarray, top1: float
) -> dict:
    """Return the record of one network, for `architecture_text`."""
    from model import architecture_record  # lazily: it loads torch, which --help does not wait for

    return architecture_record(space, architecture) | table.facts(architecture) | {"top1": top1}


def write_candidate(
    path: Path,
    space: SearchSpace,
    table: LookupTable,
    architecture: np.ndarray,
    top1: float,
    source: str,
) -> dict:
    """Write the architecture file of one network; return its content."""
    from model import architecture_text  # lazily, as above

    facts = candidate_facts(space, table, architecture, top1) | {"source": source}
    write_text(path, architecture_text(facts))
    return facts


def candidates_csv(
    space: SearchSpace,
    table: LookupTable,
    architectures: np.ndarray,
    first: Mapping[str, Iterable],
    last: Mapping[str, Iterable],
) -> str:
    """Format architectures as names, and their costs, between other columns.

    Flops and params are single ones, all other costs are in their unit (latency in ms).
    """
    names = [" ".join(space.decode(a)) for a in architectures]
    columns: dict[str, Iterable] = {**first, "architecture": names}
    for metric in table.metrics:
        cost = table.cost(architectures, metric)
        columns[metric] = (cost if metric in METRICS else cost / MILLION).tolist()
    columns |= last
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))  # floats in full: read back as they were
    return text.getvalue()


def run_search(
    strategy: SearchStrategy,
    evaluate: Callable[[np.ndarray], np.ndarray],
    history: History,
    on_round: Callable[[], None] = lambda: None,
) -> History:
    """Ask, evaluate, tell and add to the history, round by round, until nothing is asked.

    Args:
        evaluate: scores [N], higher is better, of architectures int [N, L]: an `Evaluator`, or any
            function.

    Returns:
        The history, which knows the strategy's choice.
    """
    while len(architectures := strategy.ask()):
        scores = evaluate(architectures)
        strategy.tell(architectures, scores)
        history.add(architectures, scores)
        on_round()
    history.chosen = strategy.chosen
    return history
