"""Known true accuracies in place of the supernet: strategies are compared in seconds.

The file is JSON as NAS-Bench-Macro's: architecture digits -> {"mean_acc": percent, and perhaps
"flops", "params"}. It can hold a part of the space: only those networks (each by the code that
represents it; one known code makes its network known) are candidates then.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from lookup_table import METRICS, Equivalence, LookupTable, architecture_keys
from model import SearchSpace
from search_strategy.scores import OnProgress, no_progress


class Oracle:
    """A scorer that looks accuracies up.

    Attributes:
        known: the networks that the file knows, int [M, L], in lexicographic order.
        cache: their accuracies, each as score and top-1; of several codes of one network, the mean.
    """

    def __init__(
        self, path: Path, space: SearchSpace, table: LookupTable, equivalence: Equivalence
    ) -> None:
        """Raises ValueError: unreadable, of another space, or of other flops or params."""
        entries = _read(path)
        codes = np.array([[int(d) for d in digits] for digits in entries], dtype=np.int64)
        if codes.shape[1] != space.num_layers or (codes >= space.num_choices).any():
            raise ValueError(
                f"{path}: its architectures are not of {space.name} ({space.num_layers} layers); "
                f"mend --search-space"
            )
        for metric in METRICS:
            for (digits, entry), cost in zip(
                entries.items(), table.cost(codes, metric).tolist(), strict=True
            ):
                if metric in entry and entry[metric] != cost:
                    raise ValueError(
                        f"{path}: {digits} has {entry[metric]} {metric}, here it is {cost}; mend "
                        f"--input-size ({space.input_size}), --dataset or --widths"
                    )
        per_network: dict[tuple[int, ...], list[float]] = {}
        accuracies = [float(entry["mean_acc"]) for entry in entries.values()]
        for key, accuracy in zip(
            architecture_keys(equivalence.canonical(codes)), accuracies, strict=True
        ):
            per_network.setdefault(key, []).append(accuracy)
        means = {key: float(np.mean(v)) for key, v in sorted(per_network.items())}
        self.cache = {key: (mean, mean) for key, mean in means.items()}
        self.known = np.array(list(self.cache), dtype=np.int64)

    def score(self, architectures: np.ndarray, on_progress: OnProgress = no_progress) -> np.ndarray:
        """Accuracies in percent, float64 [N, 2], of known architectures."""
        on_progress(len(architectures), None)
        return np.array([self.cache[key] for key in architecture_keys(architectures)])


def _read(path: Path) -> dict[str, dict]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"--oracle {path} cannot be read as JSON: {error}") from error
    if not isinstance(entries, dict) or not entries:
        raise ValueError(f"--oracle {path} must map architecture digits to their mean_acc")
    length = len(next(iter(entries)))
    for digits, entry in entries.items():
        if not digits.isascii() or not digits.isdecimal() or len(digits) != length:
            raise ValueError(f"{path}: {digits!r} is not an architecture of {length} digits")
        accuracy = entry.get("mean_acc") if isinstance(entry, dict) else None
        if isinstance(accuracy, bool) or not isinstance(accuracy, (int, float)):
            raise ValueError(f"{path}: {digits} has no mean_acc in percent")
        if not 0 <= accuracy <= 100:
            raise ValueError(f"{path}: mean_acc {accuracy} of {digits} is not from 0 to 100")
    return entries
