"""Multi-objective search: NSGA-II (Deb et al., 2002, https://doi.org/10.1109/4235.996017).

Objectives are minimised: the top-1 error and one or two costs of the lookup table. A generation's
parents are won by binary tournaments on (front, crowding distance), crossed and mutated; the next
population is the best of parents and children together. N points, M objectives, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from config_file.arg_config.fields import flag
from config_file.arg_config.types import Words, words
from lookup_table import Budget
from search_strategy.breeding import BreedingConfig, BreedingSearch, Make, cross, mutate
from search_strategy.history import History, candidates_csv, write_candidate
from search_strategy.strategy import Findings, FinishedSearch
from utils import statistics
from utils.files import write_text


def dominates(points: np.ndarray) -> np.ndarray:
    """Return True where i of minimised points [N, M] is nowhere worse than j and somewhere better.

    The result is [N, N] (definition 1 of the paper's section II).
    """
    i, j = points[:, None], points[None]  # [N, 1, M], [1, N, M]
    return np.logical_and((i <= j).all(-1), (i < j).any(-1))  # [N, N]


def non_dominated_ranks(points: np.ndarray) -> np.ndarray:
    """Rank points [N, M]: 0 for the front, 1 for the front of the rest, ... (section III-A)."""
    dominating = dominates(points)
    ranks = np.full(len(points), -1)
    left = dominating.sum(axis=0)  # not yet ranked ones that dominate each
    rank = 0
    while (front := np.flatnonzero((left == 0) & (ranks < 0))).size:
        ranks[front] = rank
        left = left - dominating[front].sum(axis=0)  # as if these were removed
        rank += 1
    return ranks


def crowding_distance(points: np.ndarray) -> np.ndarray:
    """Compute the perimeter share [N] of the box between neighbours of a front [N, M] (III-B)."""
    distance = np.zeros(len(points))
    for values in points.T:  # [N], one objective
        order = np.argsort(values, kind="stable")
        distance[order[[0, -1]]] = np.inf  # the ends are kept first
        span = values[order[-1]] - values[order[0]]
        if span > 0 and len(points) > 2:  # equal values would be 0 / 0
            distance[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / span
    return distance


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
    """Compute the volume that minimised points [N, M], M 1 to 3, dominate up to a point [M].

    It is summed by slices along the last objective, of one dimension less each (Zitzler, 1999).
    """
    points = points[(points < reference).all(axis=1)]  # the others dominate nothing
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(reference[0] - points.min())
    points = points[np.argsort(points[:, -1], kind="stable")]
    ends = np.append(points[1:, -1], reference[-1])  # slice i is dominated by points 0 to i
    volume = 0.0
    for i, (start, end) in enumerate(zip(points[:, -1], ends, strict=True)):
        if end > start:
            volume += (end - start) * hypervolume(points[: i + 1, :-1], reference[:-1])
    return float(volume)


@dataclass(frozen=True, kw_only=True)
class ParetoConfig(BreedingConfig):
    """Raises ValueError unless one or two different objectives are named."""

    title: ClassVar[str] = "pareto"

    objectives: tuple[str, ...] = flag(
        ("flops",),
        words,
        "one or two costs to minimise beside the top-1 error (default: flops)",
        "METRIC",
        action=Words,
        nargs="+",
    )

    def check(self) -> None:
        names = self.objectives
        if len(set(names)) != len(names) or not 1 <= len(names) <= 2:
            raise ValueError(f"--objectives {' '.join(names)}: name one or two different metrics")


class ParetoSearch(BreedingSearch[ParetoConfig]):
    """Ask-tell NSGA-II within a budget; mutations follow the prior."""

    Config = ParetoConfig
    about = "NSGA-II"
    by_score = False
    needs_top1 = True

    def __init__(
        self,
        config: ParetoConfig,
        budget: Budget,
        rng: np.random.Generator,
        prior: np.ndarray | None = None,
    ) -> None:
        super().__init__(config, budget, rng, prior)
        self.survivors = np.empty((0, len(self.num_choices)), dtype=np.int64)
        self.points = np.empty((0, 1 + len(config.objectives)))  # of the survivors
        self.ranks, self.crowding = np.empty(0, dtype=np.int64), np.empty(0)
        self.front = self.points  # of everyone so far

    @classmethod
    def costs(cls, config: ParetoConfig) -> tuple[str, ...]:
        return config.objectives

    @property
    def metrics(self) -> dict[str, float]:
        """The front's hypervolume, a share of that up to 100 % error and the highest costs."""
        return {"hypervolume": hypervolume(self.front, np.ones(self.front.shape[1]))}

    def to_minimise(self, architectures: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Return top-1 error and costs [N, M], each as a share of the space's worst."""
        table = self.budget.counts.table
        costs = [table.cost(architectures, m) / table.range(m)[1] for m in self.config.objectives]
        return np.column_stack([1 - scores / 100, *costs])

    def broods(self) -> list[tuple[Make, int]]:
        return [(self.children, self.config.population)]

    def tell(self, architectures: np.ndarray, scores: np.ndarray) -> None:
        """Take the scores of a generation, top-1 in percent [N]: the best of all survive."""
        super().tell(architectures, scores)
        everyone = np.concatenate([self.survivors, architectures])
        points = np.concatenate([self.points, self.to_minimise(architectures, scores)])
        seen_front = np.concatenate([self.front, points])  # the front can outgrow the population
        self.front = np.unique(seen_front[non_dominated_ranks(seen_front) == 0], axis=0)
        ranks = non_dominated_ranks(points)
        crowding = np.empty(len(points))
        for rank in range(ranks.max() + 1):
            crowding[ranks == rank] = crowding_distance(points[ranks == rank])
        kept = np.lexsort((-crowding, ranks))[: self.config.population]  # III-B: rank, crowding
        self.survivors, self.points = everyone[kept], points[kept]
        self.ranks, self.crowding = ranks[kept], crowding[kept]
        self.generation += 1

    def winners(self, n: int) -> np.ndarray:
        """Return winners, int [n, L], of tournaments between two random survivors (III-C)."""
        first, second = self.rng.integers(len(self.survivors), size=(2, n))
        nearer = self.ranks[first] < self.ranks[second]
        lonelier = (self.ranks[first] == self.ranks[second]) & (
            self.crowding[first] > self.crowding[second]
        )
        return self.survivors[np.where(nearer | lonelier, first, second)]

    def children(self, n: int) -> np.ndarray:
        """Cross tournament winners and mutate them, int [n, L]; costs are not looked at."""
        mothers, fathers = self.winners(n), self.winners(n)
        alone = self.rng.random(n) >= self.config.crossover_prob  # children of one parent
        children = np.where(alone[:, None], mothers, cross(mothers, fathers, self.rng))
        return mutate(children, self.num_choices, self.config.mutation_prob, self.rng, self.prior)

    def findings(self, search: FinishedSearch) -> Findings:
        """Write the front of all candidates; report its size and hypervolume."""
        source = f"pareto search, run {search.folder.name}"
        number = save_front(search.folder, search.history, self.config.objectives, source)
        row = (
            f"{number} networks in pareto_front.csv and pareto_front/; hypervolume "
            f"{self.metrics['hypervolume']:.4f}"
        )
        return replace(super().findings(search), rows={"Pareto front": row})


def pareto_front(history: History, objectives: Sequence[str]) -> np.ndarray:
    """Return indices of the candidates that none beats in top-1 and all costs, by the first cost.

    Of several with the same numbers it has the first evaluated.
    """
    costs = [history.cost(metric) for metric in objectives]
    return statistics.pareto_front(np.column_stack([*costs, -history.top1]))  # all minimised


def save_front(folder: Path, history: History, objectives: Sequence[str], source: str) -> int:
    """Write pareto_front.csv and pareto_front/NNN.yaml, numbered by its index column.

    Returns:
        The number of networks on the front.
    """
    front = pareto_front(history, objectives)
    architectures = history.architectures[front]
    numbers = {"index": range(len(front)), "candidate": front.tolist()}
    scores = {"top1": history.top1[front].tolist()}
    text = candidates_csv(history.space, history.table, architectures, numbers, scores)
    write_text(folder / "pareto_front.csv", text)
    (folder / "pareto_front").mkdir(exist_ok=True)
    for i, (architecture, top1) in enumerate(zip(architectures, scores["top1"], strict=True)):
        file = folder / "pareto_front" / f"{i:03d}.yaml"
        write_candidate(file, history.space, history.table, architecture, top1, source)
    return len(front)
