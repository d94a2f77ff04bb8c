"""Networks whose true accuracy is known, in place of a supernet or to judge one by.

A benchmark is a JSON file as NAS-Bench-Macro's: architecture digits, the index of each layer's
choice (`DIGITS`), -> {"mean_acc": percent, and perhaps "std", "flops", "params"}. It may hold a
part of the space. Each of its networks stands for all of its codes: one known code makes a network
known.

Legend: L layers, N architectures. Costs are in single MACs or params, accuracies in percent.
"""

from __future__ import annotations

import json
import math
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from lookup_table import METRICS, Equivalence, LookupTable, architecture_keys
from lookup_table.table import MILLION
from model import SearchSpace
from model.blocks import SKIPS
from search_strategy.history import candidates_csv
from search_strategy.scores import Key, OnProgress, no_progress

DIGITS = string.digits + string.ascii_letters + "+-"  # of a choice: as many as a layer may have


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Distinct networks and their accuracy when trained alone; a scorer that looks it up.

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

    @classmethod
    def read(cls, path: Path, space: SearchSpace, table: LookupTable | None = None) -> Benchmark:
        """Read a benchmark file; codes of the same network are merged into one, with their mean.

        Args:
            table: the MACs and params that the file's must equal; None skips this check.

        Raises:
            ValueError: unreadable, empty, a key of another space, an accuracy missing or no number,
                or other MACs or params than the table's.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"benchmark {path} cannot be read ({error.strerror})") from error
        except ValueError as error:  # raised by JSON or by UTF-8 decoding
            raise ValueError(f"benchmark {path} is not JSON ({error})") from error
        if not isinstance(content, dict) or not content:
            raise ValueError(
                f"benchmark {path} must map architectures to their results; it is empty"
            )
        values = [_entry(path, key, entry, space) for key, entry in content.items()]
        codes = np.array([from_digits(key) for key in content], dtype=np.int64)
        if table is not None:
            _check_costs(path, content, codes, space, table)
        accuracy, stds = np.array(values).T  # [num_codes] each; NaN: no std
        canonical = Equivalence(space).canonical(codes)
        distinct, which = np.unique(canonical, axis=0, return_inverse=True)  # rows sorted
        which = which.reshape(-1)  # numpy 2.0 gives it a second axis
        count = np.bincount(which)  # codes per network
        return cls(
            architectures=distinct,
            accuracy=np.bincount(which, accuracy) / count,  # mean over a network's codes
            std=None if np.isnan(stds).any() else np.bincount(which, stds) / count,
            num_codes=len(codes),
        )

    def take(self, rows: np.ndarray) -> Benchmark:
        """Return the networks at these indices."""
        return replace(
            self,
            architectures=self.architectures[rows],
            accuracy=self.accuracy[rows],
            std=None if self.std is None else self.std[rows],
        )

    @cached_property
    def _rows(self) -> dict[Key, int]:
        return {key: row for row, key in enumerate(architecture_keys(self.architectures))}

    def score(self, architectures: np.ndarray, on_progress: OnProgress = no_progress) -> np.ndarray:
        """Look up accuracies, as `Scorer.score`; both columns are the same.

        Raises:
            KeyError: an architecture that is none of `self.architectures`.
        """
        rows = [self._rows[key] for key in architecture_keys(architectures)]
        on_progress(len(rows), None)
        return self.accuracy[rows][:, None].repeat(2, axis=1)  # [N, 2]: score and top-1


def _entry(path: Path, key: str, entry: object, space: SearchSpace) -> tuple[float, float]:
    """Check one entry of a benchmark file; return accuracy and std, NaN where it has none."""
    example = "one digit per layer, the index of its choice; after 9 come a to z, A to Z"
    if len(key) != space.num_layers:
        raise ValueError(
            f"{path}: key '{key}' has {len(key)} digits, but {space.name} has "
            f"{space.num_layers} layers ({example}); fix --search-space or take a benchmark of it"
        )
    for i, (digit, allowed) in enumerate(zip(key, space.num_choices.tolist(), strict=True), 1):
        if digit not in DIGITS[:allowed]:
            raise ValueError(
                f"{path}: key '{key}': '{digit}' is no choice of layer {i}, which has choices 0 "
                f"to {DIGITS[:allowed][-1]} ({example})"
            )
    if not isinstance(entry, dict) or "mean_acc" not in entry:
        raise ValueError(f"{path}: '{key}' has no 'mean_acc' (its true top-1 in percent)")

    def percent(name: str) -> float:
        value = entry[name]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)  # True is an int
        if not (number and 0 <= value <= 100):  # NaN fails too
            raise ValueError(f"{path}: '{key}': '{name}' must be from 0 to 100, not {value!r}")
        return value

    return percent("mean_acc"), math.nan if entry.get("std") is None else percent("std")


def _check_costs(
    path: Path, content: dict[str, dict], codes: np.ndarray, space: SearchSpace, table: LookupTable
) -> None:
    for metric in METRICS:
        costs = table.cost(codes, metric).tolist()
        for (key, entry), cost in zip(content.items(), costs, strict=True):
            if metric in entry and entry[metric] != cost:  # exact: both are counts
                raise ValueError(
                    f"{path}: {key} has {entry[metric]} {metric}, here it is {cost}; fix "
                    f"--input-size ({space.input_size}), --dataset or --widths"
                )


def digits(architecture: Sequence[int] | np.ndarray) -> str:
    """Return the key of an architecture, int [L], in a benchmark file."""
    return "".join(DIGITS[choice] for choice in architecture)


def from_digits(key: str) -> list[int]:
    """Return the architecture that a key of a benchmark file stands for, L indices."""
    return [DIGITS.index(digit) for digit in key]


def trivial_scores(
    architectures: np.ndarray, space: SearchSpace, table: LookupTable
) -> dict[str, np.ndarray]:
    """Return scores that need no training: size, cost, number of layers that are no skip."""
    working = [[name not in SKIPS for name in layer.choices] for layer in space.layers]
    layers = [np.array(row)[column] for row, column in zip(working, architectures.T, strict=True)]
    return {
        "params": table.cost(architectures, "params"),
        "flops": table.cost(architectures, "flops"),
        "non_identity_layers": np.sum(layers, axis=0),  # [L, N] -> [N]
    }


def choose_within(score: np.ndarray, cost: np.ndarray, budget: float) -> int | None:
    """Find the highest score at a cost of at most `budget`; of equals the cheapest."""
    inside = np.flatnonzero(cost <= budget)
    if not len(inside):
        return None
    return int(inside[np.lexsort((cost[inside], -score[inside]))[0]])  # lexsort: last key first


def budget_regret(
    benchmark: Benchmark, score: np.ndarray, cost: np.ndarray, budgets: Sequence[float]
) -> list[dict]:
    """Compute the regret of choosing by score within each budget (in millions).

    It is the points of true accuracy that the network of the highest score is below the best one.

    Raises:
        ValueError: a budget that no network of the benchmark keeps.
    """
    rows, accuracy, networks = [], benchmark.accuracy, benchmark.architectures
    for budget in budgets:
        limit = round(budget * MILLION)  # millions -> single MACs or params
        chosen, best = (choose_within(values, cost, limit) for values in (score, accuracy))
        if chosen is None:
            raise ValueError(
                f"--budgets: no network of the benchmark costs at most {budget:g} M (the cheapest "
                f"costs {cost.min() / MILLION:,.3f} M)"
            )
        rows.append(
            {
                "budget": budget,
                "networks": int((cost <= limit).sum()),
                "chosen": digits(networks[chosen]),
                "chosen_accuracy": float(accuracy[chosen]),
                "best": digits(networks[best]),
                "best_accuracy": float(accuracy[best]),
                "regret": float(accuracy[best] - accuracy[chosen]),
            }
        )
    return rows


def over_supernets(results: Sequence[dict]) -> dict:
    """Average over supernets what each one's ranking reaches, with sample stds (`..._std`).

    Args:
        results: of several supernets on the same networks, with the keys that are printed for one.

    Returns:
        The same keys where they have a mean, and `supernets`, the results one by one.
    """
    first, smooth = results[0], [found["smoothed"] for found in results]
    taus = ("kendall_tau", "kendall_tau_binned")

    def averaged(parts: Sequence[dict], names: Sequence[str]) -> dict[str, float]:
        values = {name: np.array([part[name] for part in parts]) for name in names}
        means = {name: float(v.mean()) for name, v in values.items()}
        return means | {f"{name}_std": float(v.std(ddof=1)) for name, v in values.items()}

    def regrets(parts: Sequence[dict]) -> list[dict]:
        same = ("budget", "networks", "best", "best_accuracy")
        rows = zip(*(part["regret"] for part in parts), strict=True)  # by budget, one per supernet
        return [{name: row[0][name] for name in same} | averaged(row, ("regret",)) for row in rows]

    same = ("score", "num_binned", "num_architectures", "num_codes", "training_agreement")
    return {
        **{name: first[name] for name in (*same, "info_metric")},
        **averaged(results, (*taus, "spearman_rho", "mean_top1")),
        "regret": regrets(results),
        "smoothed": averaged(smooth, taus) | {"regret": regrets(smooth)},
        "supernets": list(results),
    }


def ranking_csv(
    space: SearchSpace, table: LookupTable, benchmark: Benchmark, scores: dict[str, np.ndarray]
) -> str:
    """Format index, digits, architecture, flops, params, accuracy and the scores of networks."""
    networks = benchmark.architectures
    first = {"index": range(len(networks)), "digits": map(digits, networks)}
    columns = {"accuracy": benchmark.accuracy, **scores}
    last = {name: values.tolist() for name, values in columns.items()}
    return candidates_csv(space, table, networks, first, last)
