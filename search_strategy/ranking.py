"""Networks whose true accuracy is known, and what one would have chosen by a score.

Legend: L layers, N architectures. Costs are in single MACs or params, accuracies in percent.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lookup_table import METRICS, Equivalence, LookupTable
from lookup_table.table import MILLION
from model import SearchSpace
from model.blocks import SKIPS


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Distinct networks and their accuracy when trained alone.

    Attributes:
        architectures: int [N, L], one code per network, in lexicographic order.
        accuracy: top-1 in percent [N].
        std: of repeated trainings, in points [N]; None where the file has none.
        num_codes: entries of the file; more than N where several codes are one network.
    """

    architectures: np.ndarray
    accuracy: np.ndarray
    std: np.ndarray | None
    num_codes: int

    def take(self, rows: np.ndarray) -> Benchmark:
        """The networks at these indices."""
        std = None if self.std is None else self.std[rows]
        return Benchmark(
            architectures=self.architectures[rows],
            accuracy=self.accuracy[rows],
            std=std,
            num_codes=self.num_codes,
        )


def _entry(path: Path, key: str, entry: object, space: SearchSpace) -> tuple[float, float | None]:
    """Accuracy and std of one line of a benchmark; everything about it checked."""
    example = "one digit per layer, the index of its choice"
    if len(key) != space.num_layers:
        raise ValueError(
            f"{path}: key '{key}' has {len(key)} digits, but {space.name} has "
            f"{space.num_layers} layers ({example}); take a benchmark of the checkpoint's space"
        )
    for i, (digit, allowed) in enumerate(zip(key, space.num_choices.tolist(), strict=True), 1):
        if not ("0" <= digit <= "9" and int(digit) < allowed):
            raise ValueError(
                f"{path}: key '{key}': '{digit}' is no choice of layer {i}, which has choices 0 "
                f"to {allowed - 1} ({example})"
            )
    if not isinstance(entry, dict) or "mean_acc" not in entry:
        raise ValueError(f"{path}: '{key}' has no 'mean_acc' (its true top-1 in percent)")

    def percent(name: str) -> float:
        value = entry[name]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and 0 <= value <= 100):
            raise ValueError(f"{path}: '{key}': '{name}' must be from 0 to 100, not {value!r}")
        return value

    return percent("mean_acc"), None if entry.get("std") is None else percent("std")


def read_benchmark(path: Path, space: SearchSpace) -> Benchmark:
    """A JSON file {digits: {mean_acc, std (optional), ...}} as NAS-Bench-Macro's.

    Digits are choice indices, one per layer. Codes of the same network are merged: their mean.

    Raises:
        ValueError: unreadable, empty, a key of another space, an accuracy missing or no number.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"benchmark {path} cannot be read ({error.strerror})") from error
    except ValueError as error:  # of JSON or of UTF-8
        raise ValueError(f"benchmark {path} is not JSON ({error})") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"benchmark {path} must map architectures to their results; it is empty")
    values = [_entry(path, key, entry, space) for key, entry in content.items()]
    codes = np.array([[int(digit) for digit in key] for key in content], dtype=np.int64)
    accuracy = np.array([value for value, _ in values])
    stds = np.array([math.nan if std is None else std for _, std in values])

    distinct, which = np.unique(Equivalence(space).canonical(codes), axis=0, return_inverse=True)
    which = which.reshape(-1)  # numpy 2.0 gives it a second axis
    count = np.bincount(which)
    has_std = not np.isnan(stds).any()
    return Benchmark(
        architectures=distinct,
        accuracy=np.bincount(which, accuracy) / count,
        std=np.bincount(which, stds) / count if has_std else None,
        num_codes=len(codes),
    )


def digits(architecture: Sequence[int] | np.ndarray) -> str:
    """int [L] -> the key of a benchmark file."""
    return "".join(str(int(choice)) for choice in architecture)


def trivial_scores(
    architectures: np.ndarray, space: SearchSpace, table: LookupTable
) -> dict[str, np.ndarray]:
    """What ranks networks without any training: size, cost, number of layers that are no skip."""
    is_skip = [[name in SKIPS for name in layer.choices] for layer in space.layers]
    skips = sum(
        np.array(row)[architectures[:, i]].astype(np.int64) for i, row in enumerate(is_skip)
    )
    return {
        "params": table.cost(architectures, "params"),
        "flops": table.cost(architectures, "flops"),
        "non_identity_layers": space.num_layers - skips,
    }


def choose_within(score: np.ndarray, cost: np.ndarray, budget: float) -> int | None:
    """Index of the highest score at a cost of at most `budget`; of equals the cheapest."""
    inside = np.flatnonzero(cost <= budget)
    if not len(inside):
        return None
    return int(inside[np.lexsort((cost[inside], -score[inside]))[0]])


def budget_regret(
    benchmark: Benchmark, score: np.ndarray, cost: np.ndarray, budgets: Sequence[float]
) -> list[dict]:
    """For each budget (in millions): the network of the highest score within it, and how far its
    true accuracy is below the best within it, in points.

    Raises:
        ValueError: a budget that no network of the benchmark keeps.
    """
    rows = []
    for budget in budgets:
        limit = round(budget * MILLION)
        chosen = choose_within(score, cost, limit)
        if chosen is None:
            raise ValueError(
                f"--budgets: no network of the benchmark costs at most {budget:g} M (the cheapest "
                f"costs {cost.min() / MILLION:,.3f} M)"
            )
        best = choose_within(benchmark.accuracy, cost, limit)
        accuracy = benchmark.accuracy
        rows.append(
            {
                "budget": budget,
                "networks": int((cost <= limit).sum()),
                "chosen": digits(benchmark.architectures[chosen]),
                "chosen_accuracy": float(accuracy[chosen]),
                "best": digits(benchmark.architectures[best]),
                "best_accuracy": float(accuracy[best]),
                "regret": float(accuracy[best] - accuracy[chosen]),
            }
        )
    return rows


def ranking_csv(
    space: SearchSpace,
    table: LookupTable,
    benchmark: Benchmark,
    scores: dict[str, np.ndarray],
) -> str:
    """index, digits, architecture, flops, params, accuracy of the networks, then their scores."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "digits", "architecture", *METRICS, "accuracy", *scores])
    for i, architecture in enumerate(benchmark.architectures):
        costs = [int(table.cost(architecture, metric)) for metric in METRICS]
        names = " ".join(space.decode(architecture))
        percents = [float(values[i]) for values in (benchmark.accuracy, *scores.values())]
        writer.writerow([i, digits(architecture), names, *costs, *percents])
    return text.getvalue()
