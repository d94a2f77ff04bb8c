"""Multi-objective search: NSGA-II (Deb et al., 2002, https://doi.org/10.1109/4235.996017).

Objectives are minimised: the top-1 error and one or two costs of the lookup table. A generation's
parents are won by binary tournaments on (front, crowding distance), crossed and mutated; the next
population is the best of parents and children together. N points, M objectives, L layers.
"""

from __future__ import annotations

import numpy as np

from lookup_table import Budget, architecture_keys
from search_strategy.breeding import cross, mutate, new_children


def dominates(points: np.ndarray) -> np.ndarray:
    """Minimised objectives [N, M] -> bool [N, N]: i is nowhere worse than j and somewhere better.

    (Definition 1 of the paper's section II.)
    """
    no_worse = (points[:, None] <= points[None]).all(-1)
    better = (points[:, None] < points[None]).any(-1)
    return np.logical_and(no_worse, better)


def non_dominated_ranks(points: np.ndarray) -> np.ndarray:
    """[N, M] -> int [N]: 0 for the front, 1 for the front of the rest, ... (section III-A)."""
    dominating = dominates(points)
    ranks = np.full(len(points), -1)
    left = dominating.sum(axis=0)  # by how many of those not yet ranked each is dominated
    rank = 0
    while (front := np.flatnonzero((left == 0) & (ranks < 0))).size:
        ranks[front] = rank
        left = left - dominating[front].sum(axis=0)
        rank += 1
    return ranks


def crowding_distance(points: np.ndarray) -> np.ndarray:
    """[N, M] of one front -> [N]: perimeter share of the box between neighbours (III-B)."""
    distance = np.zeros(len(points))
    for values in points.T:
        order = np.argsort(values, kind="stable")
        distance[order[[0, -1]]] = np.inf
        span = values[order[-1]] - values[order[0]]
        if span > 0 and len(points) > 2:
            distance[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / span
    return distance


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
    """Volume dominated by points [N, M], M 1 to 3, up to a reference point [M]; minimised.

    By slices along the last objective, each the volume of one dimension less (Zitzler, 1999).
    """
    points = points[(points < reference).all(axis=1)]
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(reference[0] - points.min())
    points = points[np.argsort(points[:, -1], kind="stable")]
    ends = np.append(points[1:, -1], reference[-1])
    volume = 0.0
    for i, (start, end) in enumerate(zip(points[:, -1], ends, strict=True)):
        if end > start:
            volume += (end - start) * hypervolume(points[: i + 1, :-1], reference[:-1])
    return float(volume)


class ParetoSearch:
    """Ask-tell NSGA-II within a budget.

    Args:
        budget: what may be asked.
        rng: the source of all its randomness.
        objectives: one or two metrics of the table, to be minimised beside the error.
        generation_num: generations, the random first one included.
        population: candidates of each, and survivors.
        mutation_prob: chance of each layer of a child to be drawn anew.
        crossover_prob: chance of a child to have two parents.

    Raises:
        ValueError: not one or two different objectives.
    """

    def __init__(
        self,
        budget: Budget,
        rng: np.random.Generator,
        objectives: tuple[str, ...] = ("flops",),
        generation_num: int = 20,
        population: int = 60,
        mutation_prob: float = 0.1,
        crossover_prob: float = 0.5,
    ) -> None:
        if len(set(objectives)) != len(objectives) or not 1 <= len(objectives) <= 2:
            raise ValueError(
                f"--objectives {' '.join(objectives)}: name one or two different metrics"
            )
        self.budget = budget
        self.rng = rng
        self.objectives = tuple(objectives)
        self.num_choices = budget.counts.num_choices  # [L]
        self.generation_num = generation_num
        self.population = population
        self.mutation_prob = mutation_prob
        self.crossover_prob = crossover_prob
        self.prior: np.ndarray | None = None  # [L, C], that mutated layers are drawn from
        self.generation = 0
        self.survivors = np.empty((0, len(self.num_choices)), dtype=np.int64)
        self.points = np.empty((0, 1 + len(objectives)))  # of the survivors
        self.ranks, self.crowding = np.empty(0, dtype=np.int64), np.empty(0)
        self.front = self.points  # of everyone so far
        self.seen: set[tuple[int, ...]] = set()

    @property
    def total(self) -> int:
        """How many candidates it will ask for at most."""
        return min(self.generation_num * self.population, self.budget.count)

    @property
    def metrics(self) -> dict[str, float]:
        """Numbers of the search so far, for TensorBoard.

        The hypervolume is of the front of all candidates, as a share of the box between nothing
        and (100 % error, the space's highest costs).
        """
        return {"hypervolume": hypervolume(self.front, np.ones(self.front.shape[1]))}

    def to_minimise(self, architectures: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Top-1 error and costs [N, M], each as a share of the space's worst."""
        table = self.budget.counts.table
        costs = [table.cost(architectures, m) / table.range(m)[1] for m in self.objectives]
        return np.column_stack([1 - scores / 100, *costs])

    def ask(self) -> np.ndarray:
        """The next generation, int [N, L]; none when the search is over."""
        if self.generation == self.generation_num:
            return self.survivors[:0]
        taken = set(self.seen)
        parts = []
        if len(self.survivors):
            parts.append(
                new_children(self._children, self.population, self.budget, taken, self.rng)
            )
        rest = self.population - sum(map(len, parts))
        parts.append(self.budget.sample_unique(rest, self.rng, exclude=taken))
        return np.concatenate(parts)

    def tell(self, architectures: np.ndarray, scores: np.ndarray) -> None:
        """Scores of a generation, top-1 in percent [N]: the best of it and the old survive."""
        self.seen.update(architecture_keys(architectures))
        everyone = np.concatenate([self.survivors, architectures])
        points = np.concatenate([self.points, self.to_minimise(architectures, scores)])
        seen_front = np.concatenate([self.front, points])
        self.front = np.unique(seen_front[non_dominated_ranks(seen_front) == 0], axis=0)
        ranks = non_dominated_ranks(points)
        crowding = np.empty(len(points))
        for rank in range(ranks.max() + 1):
            crowding[ranks == rank] = crowding_distance(points[ranks == rank])
        kept = np.lexsort((-crowding, ranks))[: self.population]
        self.survivors, self.points = everyone[kept], points[kept]
        self.ranks, self.crowding = ranks[kept], crowding[kept]
        self.generation += 1

    def _tournaments(self, n: int) -> np.ndarray:
        """Winners [n, L] between two random survivors each."""
        first, second = self.rng.integers(len(self.survivors), size=(2, n))
        nearer = self.ranks[first] < self.ranks[second]
        lonelier = (self.ranks[first] == self.ranks[second]) & (
            self.crowding[first] > self.crowding[second]
        )
        return self.survivors[np.where(nearer | lonelier, first, second)]

    def _children(self, n: int) -> np.ndarray:
        mothers, fathers = self._tournaments(n), self._tournaments(n)
        alone = self.rng.random(n) >= self.crossover_prob
        children = np.where(alone[:, None], mothers, cross(mothers, fathers, self.rng))
        return mutate(children, self.num_choices, self.mutation_prob, self.rng, self.prior)
