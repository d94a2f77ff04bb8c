"""Agreement of scores with known true values: rank correlation and bootstrap intervals.

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
BINS = 400  # of accuracies, as in papers on NAS-Bench-201


def kendall_tau(score: np.ndarray, truth: np.ndarray) -> float:
    """Kendall's τ-b (ties count for neither side); NaN where one side is constant."""
    from scipy.stats import kendalltau

    return float(kendalltau(score, truth).statistic)


def tau_text(tau: float, digits: int = 3) -> str:
    """Format a τ for people; there is none where one side is constant."""
    return "undefined (all equal)" if math.isnan(tau) else f"{tau:.{digits}f}"


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
    """Compute percentile intervals (95 %) [S, 2] of S statistics of items drawn with replacement.

    Efron & Tibshirani, An Introduction to the Bootstrap, chapter 13. They tell how much a value
    depends on which items were looked at, not on the training of what scored them.

    Args:
        statistics: of the items at these indices, int [n] -> float [S].
    """
    values = np.stack([statistics(rng.integers(0, n, n)) for _ in range(resamples)])
    tail = (1 - CONFIDENCE) / 2
    return np.nanquantile(values, [tail, 1 - tail], axis=0).T  # NaN: a constant resample


def top_k_overlap(score: np.ndarray, truth: np.ndarray, k: int) -> float:
    """Compute the share of the k truly best among the k of the highest score. Ties: the first."""
    ours, best = (np.argsort(-values, kind="stable")[:k] for values in (score, truth))
    return len(np.intersect1d(ours, best)) / k


def best_of_bins(truth: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return indices of the best item (the first of equals) of each bin of `truth` that holds any.

    Bins are equally wide, in ascending order. Papers on NAS-Bench-201 report the ranking of these
    few items: the many of nearly equal accuracy, whose order is mostly noise, weigh no more than
    the rare ones, so τ is higher than that of all items.
    """
    edges = np.linspace(truth.min(), truth.max(), bins + 1)
    which = np.minimum(np.searchsorted(edges, truth, side="right") - 1, bins - 1)  # max: last bin
    order = np.lexsort((-truth, which))
    first_of_bin = np.diff(which[order], prepend=-1) > 0  # where a bin begins
    return order[first_of_bin]


def three_trainings(mean: np.ndarray, std: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw three trainings of each network, float [3, N], of exactly this mean and population std.

    The errors of three normal numbers lie on a circle of radius std · √3, any direction as likely.
    """
    angle = rng.uniform(0, 2 * np.pi, len(mean)) + 2 * np.pi / 3 * np.arange(3)[:, None]
    return mean + math.sqrt(2) * std * np.cos(angle)


def training_agreement(
    mean: np.ndarray, std: np.ndarray, draws: int, rng: np.random.Generator
) -> dict[str, float]:
    """Compute the mean τ of trainings of the same networks, to judge a score's τ by.

    Args:
        mean: accuracy of each network, the mean of three trainings (NAS-Bench-Macro, 2103.11922).
        std: of the same trainings, taken as a population (divided by 3).

    Returns:
        run_vs_run: one training and another.
        run_vs_mean_of_others: one training and the mean of the other two.
        perfect_score: the expected accuracy and the mean of three trainings, the estimated ceiling
            of any score. `mean` stands for the expectation and new means are drawn around it, with
            the std corrected for its bias; networks then lie a little further apart than in truth,
            so the estimate is slightly high.
    """
    taus = []
    for _ in range(draws):
        first, second, third = three_trainings(mean, std, rng)
        again = rng.normal(mean, std * math.sqrt(3 / 2) / math.sqrt(3))  # Bessel; mean of 3
        pairs = (first, second), (first, (second + third) / 2), (mean, again)
        taus.append([kendall_tau(*pair) for pair in pairs])
    names = ("run_vs_run", "run_vs_mean_of_others", "perfect_score")
    return dict(zip(names, np.mean(taus, axis=0).tolist(), strict=True))


def rank_agreement(
    score: np.ndarray,
    truth: np.ndarray,
    baselines: dict[str, np.ndarray],
    top_k: Sequence[int],
    resamples: int,
    rng: np.random.Generator,
) -> dict:
    """Compute τ, ρ and top-k overlap of a score, and τ of trivial scores on the same items.

    Args:
        baselines: name -> another score of the same items, [N].

    Returns:
        kendall_tau, spearman_rho and their `_interval`s; kendall_tau_binned, of the `num_binned`
        items of `best_of_bins`; top_k_overlap by k (those above N are left out); baselines by name:
        kendall_tau, its interval, kendall_tau_binned, and the interval of what the score is ahead
        by (`ahead_interval`, paired: the same draws for both).

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
        ahead = [tau - other for other in others]
        return np.array([tau, spearman_rho(score[rows], true), *others, *ahead])

    tau, rho, *rest = statistics(np.arange(n)).tolist()
    intervals = bootstrap_intervals(statistics, n, resamples, rng).tolist()
    tau_interval, rho_interval, *intervals = intervals
    best = best_of_bins(truth)
    return {
        "kendall_tau": tau,
        "kendall_tau_interval": tau_interval,
        "kendall_tau_binned": kendall_tau(score[best], truth[best]),
        "num_binned": len(best),
        "spearman_rho": rho,
        "spearman_rho_interval": rho_interval,
        "top_k_overlap": {str(k): top_k_overlap(score, truth, k) for k in top_k if k <= n},
        "baselines": {
            name: {
                "kendall_tau": rest[i],
                "kendall_tau_interval": intervals[i],
                "kendall_tau_binned": kendall_tau(baselines[name][best], truth[best]),
                "ahead_interval": intervals[len(baselines) + i],
            }
            for i, name in enumerate(baselines)
        },
    }


def pareto_front(points: np.ndarray) -> np.ndarray:
    """Return indices of points [N, M] that no other dominates, by the first column, then the next.

    All columns are minimised. Of equal points the first one counts.
    """
    _, distinct = np.unique(points, axis=0, return_index=True)  # in lexicographic order
    front: list[int] = []
    for i in distinct.tolist():  # what dominates a point stands before it
        if not (points[front] <= points[i]).all(axis=1).any():
            front.append(i)
    return np.array(front, dtype=np.int64)


def without_nan(value: Any) -> Any:
    """Copy nested dicts and lists with None, which JSON knows, in place of NaN."""
    if isinstance(value, dict):
        return {key: without_nan(v) for key, v in value.items()}
    if isinstance(value, list):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
