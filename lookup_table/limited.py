"""Exact sampling of architectures within several limits at once.

Limits on sums (MACs, params, latency) are kept by drawing from a superset whose counts are known
and checking each draw against its true costs, which leaves a uniform draw over what is within all
of them. The superset is what one limit holds, or, where too few of those pass, the cells of two
(`lookup_table/joint.py`). A limit on a maximum (peak memory) is a filter: it rules choices of
layers out before anything is counted. Few networks are listed instead. L layers, N architectures.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from lookup_table.budget import MAX_LISTED, MAX_ROUNDS, Budget, architecture_keys
from lookup_table.counts import BudgetCounts
from lookup_table.equivalence import Equivalence
from lookup_table.infeasible import why_infeasible
from lookup_table.joint import JointCounts
from lookup_table.largest import largest_of_two
from lookup_table.limits import Limit, unit_guess
from lookup_table.table import LookupTable

TRIAL = 1 << 13  # draws that measure how many of a superset are within all limits
ENOUGH = 0.25  # of one limit's draws: then no pair is counted
MOST_DRAWN = 1 << 18  # at a time

Draw = Callable[[int, np.random.Generator], np.ndarray]


def build_budget(
    table: LookupTable,
    limits: Sequence[Limit],
    equivalence: Equivalence | None = None,
    among: np.ndarray | None = None,
) -> Budget:
    """Build the budget of one limit or of several.

    Args:
        limits: at least one; the first is the one that --info-metric names.
        equivalence: count one code per network; None counts every code.
        among: only these, int [M, L]; None is no such restriction.

    Raises:
        ValueError: no architecture is within all limits; the message states what is feasible.
    """
    (first, *others) = limits
    if not others and first.metric not in table.peaks:
        counts = BudgetCounts(table, first.metric, equivalence)
        return Budget(counts, first.low, first.high, among)
    return LimitedBudget(table, limits, equivalence, among)


def allowed_choices(table: LookupTable, limits: Sequence[Limit]) -> np.ndarray:
    """The choices that limits on maxima leave, bool [L, C]."""
    width = next(iter(table.costs.values())).shape[1]
    allowed = np.arange(width) < table.num_choices[:, None]
    for limit in limits:
        if limit.metric in table.peaks and limit.high is not None:
            allowed &= table.costs[limit.metric] <= limit.high
    return allowed


class LimitedBudget(Budget):
    """The architectures within all of several limits.

    Args: as of `build_budget`.

    Attributes:
        counts: of the first limit on a sum (of all MACs, where there is none), other limits on
            maxima included; `low` and `high` are those of that limit.
        joint: the counts of two limits, where draws are from these.
        acceptance: share of the draws that is within all limits.
    """

    def __init__(
        self,
        table: LookupTable,
        limits: Sequence[Limit],
        equivalence: Equivalence | None = None,
        among: np.ndarray | None = None,
    ) -> None:
        self._limits = tuple(limits)
        self.table = table
        self.allowed = allowed_choices(table, limits)
        for limit in limits:  # each by itself first: its message is the plainest
            self._check_alone(limit)
        sums = [limit for limit in limits if limit.metric not in table.peaks]
        sums = sums or [Limit(table.metrics[0], None, None)]
        every = [BudgetCounts(table, s.metric, equivalence, self.allowed) for s in sums]
        self.counts = every[0]
        self.joint: JointCounts | None = None
        self.acceptance = 1.0
        self.listed = None
        self.known = None if among is None else set(architecture_keys(among))
        lowest, highest = table.range(sums[0].metric)
        self._limit, self._sums, self._equivalence = sums[0], sums, equivalence
        self.low = lowest if sums[0].low is None else sums[0].low
        self.high = highest if sums[0].high is None else sums[0].high
        try:
            self._parts = [Budget(c, s.low, s.high) for c, s in zip(every, sums, strict=True)]
        except ValueError:  # feasible by itself, but not with the choices that are left
            raise ValueError(why_infeasible(table, self._limits, self.allowed)) from None
        if among is not None:
            self.listed = among[self.contains(among)]
        else:
            self._choose_source()
        if self.listed is not None and not len(self.listed):
            if among is not None:
                raise ValueError("none of the known architectures is within all limits; relax one")
            raise ValueError(why_infeasible(table, self._limits, self.allowed))

    def _check_alone(self, limit: Limit) -> None:
        lowest, highest = self.table.range(limit.metric)
        low = lowest if limit.low is None else limit.low
        high = highest if limit.high is None else limit.high
        if low > highest or high < lowest or low > high:
            whole = Limit(limit.metric, lowest, highest).text(self.table)
            end = high if high < lowest else low
            raise ValueError(
                f"no architecture of this space is within the limit {limit.text(self.table)}: "
                f"the space holds {whole}{unit_guess(end, self.table, limit.metric)}; change that "
                f"limit"
            )

    def _choose_source(self) -> None:
        """Decide what is drawn from, or list everything inside."""
        fewest = min(self.parts, key=lambda budget: budget.count)
        if fewest.countable and fewest.count <= MAX_LISTED:
            everything = fewest.enumerate()
            self.listed = everything[self.contains(everything)]
            return
        shares = [(self._share(budget.sample), i) for i, budget in enumerate(self.parts)]
        self.acceptance, best = max(shares)
        self._draw: Draw = self.parts[best].sample
        self._size = float(self.parts[best].count)
        if self.acceptance >= ENOUGH or len(self.parts) == 1:
            return
        for joint in self.pairs:
            if not joint.feasible or not joint.size:
                self.listed = np.empty((0, len(self.counts.steps)), dtype=np.int64)
                return
            if joint.size <= MAX_LISTED and self._list_by(joint):
                return
            share = self._share(joint.draw_inside)
            if share >= self.acceptance:
                self.acceptance, self.joint = share, joint
                self._draw, self._size = joint.draw_inside, joint.size
        few = self.acceptance * self._size <= MAX_LISTED
        if self.joint is not None and few and self._list_by(self.joint):
            return
        if not self.acceptance:
            raise ValueError(why_infeasible(self.table, self._limits, self.allowed))

    def _share(self, draw: Draw) -> float:
        """The share of draws that is within all limits."""
        return float(self.contains(draw(TRIAL, np.random.default_rng(0))).mean())

    def _list_by(self, joint: JointCounts) -> bool:
        """List everything inside, if it is not too much."""
        found = joint.list_inside()
        if found is not None:
            self.listed = found[self.contains(found)]
        return found is not None

    @property
    def limits(self) -> tuple[Limit, ...]:
        return self._limits

    @property
    def parts(self) -> list[Budget]:
        return self._parts

    @cached_property
    def pairs(self) -> list[JointCounts]:
        binding = [limit for limit in self._sums if (limit.low, limit.high) != (None, None)]
        return [
            JointCounts(self.table, pair, self._equivalence, self.allowed)
            for pair in itertools.combinations(binding, 2)
        ]

    @property
    def countable(self) -> bool:
        return self.listed is not None

    @property
    def count(self) -> int:
        """Number of architectures inside; an estimate where they are not listed."""
        if self.listed is not None:
            return len(self.listed)
        return max(1, round(self.acceptance * self._size))

    def contains(self, architectures: np.ndarray) -> np.ndarray:
        """Tell which architectures are inside, int [N, L] -> bool [N]."""
        inside = np.ones(len(architectures), dtype=bool)
        for limit in self._limits:
            cost = self.table.cost(architectures, limit.metric)
            if limit.low is not None:
                inside &= cost >= limit.low
            if limit.high is not None:
                inside &= cost <= limit.high
        if self.known is not None:
            inside &= [key in self.known for key in architecture_keys(architectures)]
        return inside

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n independent architectures [n, L], uniform over those inside.

        Raises:
            ValueError: hardly any draw is inside.
        """
        if self.listed is not None:
            return self.listed[rng.integers(len(self.listed), size=n)]
        kept = [np.empty((0, len(self.counts.steps)), dtype=np.int64)]
        missing = n
        for _ in range(MAX_ROUNDS):
            if missing <= 0:
                break
            wanted = 1.02 * missing / max(self.acceptance, 1 / TRIAL) + 64
            drawn = self._draw(min(int(wanted), MOST_DRAWN), rng)
            kept.append(drawn[self.contains(drawn)])
            missing -= len(kept[-1])
        if missing > 0:
            raise ValueError(
                f"the limits together are too narrow to sample: {n - missing} of {n} networks "
                f"were found; relax {' or '.join(limit.metric for limit in self._limits)}"
            )
        return np.concatenate(kept)[:n]

    @cached_property
    def _largest(self) -> tuple[np.ndarray, bool]:
        first = self._limits[0]
        if self.listed is not None:
            return self.listed[int(self.table.cost(self.listed, first.metric).argmax())], True
        if first == self._sums[0]:
            alone = self.parts[0]
            if alone.largest_is_exact and self.contains(alone.largest()[None])[0]:
                return alone.largest(), True
            if len(self._sums) == 2:
                found = largest_of_two(self.counts, *self._sums)
                if found is not None and self.contains(found[None])[0]:
                    return self.canonical(found), True
        return self._largest_draw(), False

    def enumerate(self) -> np.ndarray:
        """List all architectures inside, int [count, L], in lexicographic order. For few.

        Raises:
            ValueError: there are too many.
        """
        if self.listed is None:
            raise ValueError(f"about {self.count:.3g} architectures are too many to list")
        return self.listed
