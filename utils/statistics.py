"""How well scores rank things whose true values are known, with bootstrap intervals.

Legend: N items (architectures), `score` and `truth` float [N], higher is better, no NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CONFIDENCE = 0.95
MIN_ITEMS = 3  # fewer have no ranking to speak of


def kendall_tau(score: np.ndarray, truth: np.ndarray) -> float:
    """Kendall's τ-b (ties count for neither side); NaN where one side is constant."""
    from scipy.stats import kendalltau

    return float(kendalltau(score, truth).statistic)


def spearman_rho(score: np.ndarray, truth: np.ndarray) -> float:
    """Spearman's ρ; NaN where one side is constant."""
    from scipy.stats import rankdata

    ranks = np.stack([rankdata(score), rankdata(truth)])
    if (ranks == ranks[:, :1]).all(axis=1).any():
        return float("nan")
    return float(np.corrcoef(ranks)[0, 1])


@dataclass(frozen=True)
class Comparison:
    """One value against a sample of others.

    Attributes:
        difference: value - mean of the others.
        low, high: 95 % interval of it (Student's t, from the spread of the others).
        rank: of the value among all, 1 is the highest; of equals it is the last.
        p: one-sided permutation test: probability of a rank as good, if the value were one of the
            others: (1 + number of others at least as high) / (1 + number of others).
    """

    difference: float
    low: float
    high: float
    rank: int
    p: float


def compare(value: float, others: np.ndarray) -> Comparison:
    """Compare a value with others, float [K], K > 1."""
    from scipy.stats import t

    n = len(others)
    difference = value - float(others.mean())
    half = float(t.ppf((1 + CONFIDENCE) / 2, n - 1) * others.std(ddof=1) / math.sqrt(n))
    rank = 1 + int((others >= value).sum())
    return Comparison(difference, difference - half, difference + half, rank, rank / (n + 1))


def bootstrap_intervals(
    statistics: Callable[[np.ndarray], np.ndarray],
    n: int,
    resamples: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """95 % percentile intervals [S, 2] of S statistics of items drawn anew with replacement.

    Efron & Tibshirani, An Introduction to the Bootstrap, chapter 13. They tell how much a value
    depends on which items were looked at, not on the training of what scored them.

    Args:
        statistics: of the items at these indices, int [n] -> float [S].
    """
    values = np.stack([statistics(rng.integers(0, n, n)) for _ in range(resamples)])
    tail = (1 - CONFIDENCE) / 2
    return np.nanquantile(values, [tail, 1 - tail], axis=0).T


def top_k_overlap(score: np.ndarray, truth: np.ndarray, k: int) -> float:
    """Which share of the k truly best is among the k of the highest score. Ties: the first."""
    best = [np.argsort(-values, kind="stable")[:k] for values in (score, truth)]
    return len(np.intersect1d(*best)) / k


def noise_ceiling(mean: np.ndarray, std: np.ndarray, draws: int, rng: np.random.Generator) -> float:
    """Mean τ between two independent trainings of the same networks: what no score can expect
    to pass by much.

    Each training is drawn as Normal(mean, std); nothing but the spread of a benchmark's own
    repeated trainings is in it.
    """
    taus = []
    for _ in range(draws):
        first, second = (rng.normal(mean, std) for _ in range(2))
        taus.append(kendall_tau(first, second))
    return float(np.mean(taus))


def rank_agreement(
    score: np.ndarray,
    truth: np.ndarray,
    baselines: dict[str, np.ndarray],
    top_k: Sequence[int],
    resamples: int,
    rng: np.random.Generator,
) -> dict:
    """τ, ρ, top-k overlap and, beside them, what trivial scores reach on the same items.

    Args:
        baselines: name -> another score of the same items, [N].

    Returns:
        kendall_tau, spearman_rho and their `_interval`s; top_k_overlap by k (those above N are
        left out); baselines by name: kendall_tau, its interval, and the interval of what the score
        is ahead by (`ahead_interval`, paired: the same draws for both).

    Raises:
        ValueError: fewer than three items.
    """
    n = len(truth)
    if n < MIN_ITEMS:
        raise ValueError(f"a ranking needs {MIN_ITEMS} architectures or more, not {n}")

    def statistics(rows: np.ndarray) -> np.ndarray:
        true = truth[rows]
        tau = kendall_tau(score[rows], true)
        others = [kendall_tau(other[rows], true) for other in baselines.values()]
        return np.array(
            [tau, spearman_rho(score[rows], true), *others, *(tau - other for other in others)]
        )

    tau, rho, *rest = statistics(np.arange(n)).tolist()
    tau_interval, rho_interval, *intervals = bootstrap_intervals(
        statistics, n, resamples, rng
    ).tolist()
    names = list(baselines)
    return {
        "kendall_tau": tau,
        "kendall_tau_interval": tau_interval,
        "spearman_rho": rho,
        "spearman_rho_interval": rho_interval,
        "top_k_overlap": {str(k): top_k_overlap(score, truth, k) for k in top_k if k <= n},
        "baselines": {
            name: {
                "kendall_tau": rest[i],
                "kendall_tau_interval": intervals[i],
                "ahead_interval": intervals[len(names) + i],
            }
            for i, name in enumerate(names)
        },
    }


def pareto_front(points: np.ndarray) -> np.ndarray:
    """Indices of the points [N, M] that no other one dominates, by the first column, then the next.

    All columns are minimised. Of equal points the first one counts.
    """
    _, distinct = np.unique(points, axis=0, return_index=True)  # in lexicographic order
    front: list[int] = []
    for i in distinct.tolist():  # what dominates a point stands before it
        if not (points[front] <= points[i]).all(axis=1).any():
            front.append(i)
    return np.array(front, dtype=np.int64)


def without_nan(value: Any) -> Any:
    """Nested dicts and lists with None, which JSON knows, in place of NaN."""
    if isinstance(value, dict):
        return {key: without_nan(v) for key, v in value.items()}
    if isinstance(value, list):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
