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
from lookup_table.joint import JointCounts
from lookup_table.knapsack import highest_sum, largest_of_two
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
    """Return the choices that limits on maxima leave, bool [L, C]."""
    allowed = table.exists
    for limit in limits:
        if limit.metric in table.peaks and limit.high is not None:
            allowed = allowed & (table.costs[limit.metric] <= limit.high)
    return allowed


class LimitedBudget(Budget):
    """The architectures within all of several limits; for the arguments see `build_budget`.

    Attributes:
        counts: of the first limit on a sum (of all MACs, where there is none), limits on maxima
            included; `low`, `high` and `target` are that limit's.
        acceptance: share of the draws that is within all limits.
    """

    def __init__(
        self,
        table: LookupTable,
        limits: Sequence[Limit],
        equivalence: Equivalence | None = None,
        among: np.ndarray | None = None,
    ) -> None:
        self.limits = tuple(limits)
        allowed = allowed_choices(table, limits)
        for limit in limits:  # each by itself first: its message is the plainest
            _check_alone(limit, table)
        sums = [limit for limit in limits if limit.metric not in table.peaks]
        self._sums = sums or [Limit(table.metrics[0], None, None)]  # counts need a sum
        every = [BudgetCounts(table, s.metric, equivalence, allowed) for s in self._sums]
        self.counts = every[0]
        self.low, self.high = self._sums[0].span(table)
        self.target = self._sums[0].high
        self.known = None if among is None else set(architecture_keys(among))
        self.listed = None
        try:
            self._parts = [Budget(c, s.low, s.high) for c, s in zip(every, self._sums, strict=True)]
        except ValueError:  # feasible by itself, but not with the choices that are left
            raise ValueError(why_infeasible(table, self.limits, allowed)) from None
        if among is not None:
            self.listed = among[self.contains(among)]
            if not len(self.listed):
                raise ValueError("none of the known architectures is within all limits; relax one")
            return
        self._choose_source()
        if self.listed is None:
            nothing = len(self._sums) > 1 and not self.acceptance  # one sum: `Budget` has checked
        else:
            nothing = not len(self.listed)
        if nothing:
            raise ValueError(why_infeasible(table, self.limits, allowed))

    def _choose_source(self) -> None:
        """List everything inside, or decide which superset draws come from."""
        fewest = min(self.parts, key=lambda budget: budget.count)  # each part holds all inside
        if fewest.countable and fewest.count <= MAX_LISTED:
            self._list(fewest.enumerate())
            return
        shares = [(self._share(budget.sample), i) for i, budget in enumerate(self.parts)]
        self.acceptance, best = max(shares)
        self._source: Draw = self.parts[best].sample
        self._size = float(self.parts[best].count)
        if self.acceptance >= ENOUGH:
            return
        chosen: JointCounts | None = None
        for joint in self.pairs:
            if joint.size <= MAX_LISTED and self._list(joint.list_inside()):
                return
            share = self._share(joint.draw_inside)
            if share >= self.acceptance:
                chosen, self.acceptance = joint, share
                self._source, self._size = joint.draw_inside, joint.size
        if chosen is not None and self.acceptance * self._size <= MAX_LISTED:
            self._list(chosen.list_inside())

    def _share(self, draw: Draw) -> float:
        """Estimate the share of draws that is within all limits."""
        return float(self.contains(draw(TRIAL, np.random.default_rng(0))).mean())

    def _list(self, found: np.ndarray | None) -> bool:
        """Keep the list of everything inside, unless it is too long to be found."""
        if found is not None:
            self.listed = found[self.contains(found)]
        return found is not None

    @property
    def parts(self) -> Sequence[Budget]:
        return self._parts

    @cached_property
    def pairs(self) -> list[JointCounts]:
        binding = [limit for limit in self._sums if (limit.low, limit.high) != (None, None)]
        counts = self.counts
        return [
            JointCounts(counts.table, pair, counts.equivalence, counts.allowed)
            for pair in itertools.combinations(binding, 2)
        ]

    @property
    def countable(self) -> bool:
        return self.listed is not None

    @cached_property
    def count(self) -> int:
        if self.listed is not None:
            return len(self.listed)
        return max(1, round(self.acceptance * self._size))

    def _draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        kept = [np.empty((0, len(self.counts.steps)), dtype=np.int64)]
        missing = n
        for _ in range(MAX_ROUNDS):
            if missing <= 0:
                break
            wanted = 1.02 * missing / max(self.acceptance, 1 / TRIAL) + 64  # mostly one round
            drawn = self._source(min(int(wanted), MOST_DRAWN), rng)
            kept.append(drawn[self.contains(drawn)])
            missing -= len(kept[-1])
        if missing > 0:
            raise ValueError(
                f"the limits together are too narrow to sample: {n - missing} of {n} networks "
                f"were found; relax {' or '.join(limit.metric for limit in self.limits)}"
            )
        return np.concatenate(kept)[:n]

    def _find_largest(self) -> np.ndarray | None:
        if self.limits[0] != self._sums[0]:  # the first is on a maximum, which no counts tell
            return None
        alone = self.parts[0]
        if alone.largest_is_exact and self.contains(alone.largest()[None])[0]:
            return alone.largest()
        return largest_of_two(self.counts, *self._sums) if len(self._sums) == 2 else None

    def enumerate(self) -> np.ndarray:
        """List all architectures inside, int [count, L], in lexicographic order. For few.

        Raises:
            ValueError: there are too many.
        """
        if self.listed is None:
            raise ValueError(f"about {self.count:.3g} architectures are too many to list")
        return self.listed


def _check_alone(limit: Limit, table: LookupTable) -> None:
    """Raise ValueError if a limit does not meet the range of its metric."""
    lowest, highest = table.range(limit.metric)
    low, high = limit.span(table)
    if low > highest or high < lowest or low > high:
        whole = Limit(limit.metric, lowest, highest).text(table)
        guess = unit_guess(high if high < lowest else low, table, limit.metric)
        raise ValueError(
            f"no architecture of this space is within the limit {limit.text(table)}: the space "
            f"holds {whole}{guess}; change that limit"
        )


def why_infeasible(table: LookupTable, limits: Sequence[Limit], allowed: np.ndarray) -> str:
    """Name the pair of limits that leaves least room, and what one leaves of the other.

    Args:
        limits: each of them holds something; together they hold nothing that was found.
        allowed: the choices that limits on maxima leave, bool [L, C].
    """
    peaks = [limit for limit in limits if limit.metric in table.peaks]
    sums = [limit for limit in limits if limit.metric not in table.peaks]
    names = " and ".join(limit.text(table) for limit in peaks)
    if len(layer := np.flatnonzero(~allowed.any(axis=1))):
        return f"no choice of layer {layer[0] + 1} is within {names}; relax that limit"
    if not sums:
        return f"no architecture is within {names}; relax that limit"

    def room(first: Limit, second: Limit, span: tuple[int, int]) -> float:
        """Return the part of the range in both the second limit and what the first leaves."""
        lowest, highest = table.range(second.metric)
        low, high = second.span(table)
        return (min(high, span[1]) - max(low, span[0]) + 1) / max(1, highest - lowest)

    pairs = [(peaks[0], limit, table.range(limit.metric, allowed)) for limit in sums if peaks]
    if all(room(*pair) > 0 for pair in pairs):
        for first, second in itertools.permutations(sums, 2):
            budget = Budget(BudgetCounts(table, first.metric, None, allowed), first.low, first.high)
            values = table.costs[second.metric].astype(np.float64)
            ends = [highest_sum(sign * values, budget) for sign in (-1, 1)]
            low, high = (int(table.cost(end, second.metric)) for end in ends)
            pairs.append((first, second, (low, high)))
    first, second, span = min(pairs, key=lambda pair: room(*pair))
    return (
        f"no architecture was found within all limits; the tightest pair is {first.text(table)} "
        f"and {second.text(table)}: within the former there are "
        f"{Limit(second.metric, *span).text(table)}; relax one of them"
    )
