"""Diagnosis of architecture parameters: entropy, expected cost, skips, and advice.

Legend: L layers, C the most choices of any layer. Probabilities are float [L, C], 0 beyond a
layer's choices.
"""

from __future__ import annotations

import numpy as np

from lookup_table import BudgetCounts, Equivalence, LookupTable
from lookup_table.table import MILLION
from model import SearchSpace

# beyond these a warning is given
MAX_ENTROPY_SHARE = 0.8  # relative to uniform choices: the answer is close to a random draw
MAX_COST_ERROR = 0.1  # of the expected cost, relative to the target
MAX_SKIP_SHARE = 0.5  # of the layers that can be skipped


def entropies(probabilities: np.ndarray) -> np.ndarray:
    """Compute the entropy of each layer in nats, [L]."""
    p = probabilities
    return -(p * np.log(np.maximum(p, 1e-300))).sum(1)  # 0 log 0 = 0


def entropy_share(probabilities: np.ndarray, num_choices: np.ndarray) -> float:
    """Compute the entropy of all layers relative to uniform choices, 0 to 1."""
    uniform = np.log(num_choices).sum()  # nats; 0 if no layer has a choice
    return float(entropies(probabilities).sum() / uniform) if uniform else 0.0


def expected_cost(probabilities: np.ndarray, table: LookupTable, metric: str) -> float:
    """Compute the mean cost of networks drawn from the probabilities, in the table's units."""
    return float(table.fixed[metric] + (probabilities * table.costs[metric]).sum())


def by_thresholds(space: SearchSpace) -> bool:
    """Return True where margins decide, however small, and nothing is drawn."""
    return space.supernet == "superkernel"


def decisions(space: SearchSpace, probabilities: np.ndarray) -> np.ndarray:
    """Return the probabilities that weigh the costs in the expected cost, [L, C].

    A superkernel's thresholds decide one network, the most probable one, and are trained on its
    cost; elsewhere all choices count.
    """
    if not by_thresholds(space):
        return probabilities
    return np.eye(probabilities.shape[1])[probabilities.argmax(1)]  # one-hot


def count_skips(space: SearchSpace, architecture: np.ndarray) -> tuple[int, int]:
    """Count the layers that an architecture [L] skips, and those that it could skip."""
    skip = Equivalence(space).skip  # [L], -1 where no choice does nothing
    skippable = (skip >= 0) & (space.num_choices > 1)
    return int((skippable & (architecture == skip)).sum()), int(skippable.sum())


def network_text(space: SearchSpace, counts: BudgetCounts, architecture: np.ndarray) -> str:
    """Describe cost, skips and choices of an architecture [L] in one line."""
    table, metric = counts.table, counts.metric
    cost = table.cost(architecture, metric) / MILLION
    skipped, skippable = count_skips(space, architecture)
    names = " ".join(space.decode(architecture))
    return f"{cost:,.3f} {table.unit(metric)}, {skipped} of {skippable} skips: {names}"


def convergence_rows(
    space: SearchSpace,
    counts: BudgetCounts,
    probabilities: np.ndarray,
    answer: np.ndarray,
    target: int | None,
) -> tuple[dict[str, str], list[str]]:
    """Describe the parameters behind the answer of a search, for its summary.

    Args:
        answer: the architecture derived from the probabilities, [L].
        target: of the expected cost, in the table's integer units.

    Returns:
        Rows of the summary; warnings, each with a remedy.
    """
    table, metric = counts.table, counts.metric
    share = entropy_share(probabilities, space.num_choices)
    cost = expected_cost(decisions(space, probabilities), table, metric)
    chosen = probabilities[np.arange(len(answer)), answer]  # [L]
    skipped, skippable = count_skips(space, answer)
    text = f"{cost / MILLION:,.3f} {table.unit(metric)} before the read-off"
    if target is not None:
        text += f", {cost / target:.3f} of the target"
    decided = by_thresholds(space)
    meaning = "of the margins, which decide at any size" if decided else "0 %: decided"
    rows = {
        "entropy of choices": f"{share:.0%} of uniform ({meaning})",
        "expected cost": text,
        "probability": f"{np.exp(np.log(np.maximum(chosen, 1e-300)).sum()):.2g} of the answer "
        f"(uniform: {1 / space.size:.2g}); {chosen.min():.2g} to {chosen.max():.2g} per layer",
        "skips": f"{skipped} of {skippable} layers that can be skipped",
    }
    warnings = []
    if share > MAX_ENTROPY_SHARE and not decided:
        warnings.append(
            f"the choices are at {share:.0%} of uniform entropy, so the answer is little more than "
            f"a random network: more --epochs, a higher --a-lr, or adam where --a-optimizer is sgd"
        )
    if target is not None and abs(cost / target - 1) > MAX_COST_ERROR:
        pull = "a higher" if cost > target else "a lower"  # what rewards small networks pulls down
        warnings.append(
            f"the expected cost is {cost / target:.2f} times the target, so the budget and not the "
            f"training decided part of the answer: train the supernet at this --target-hc with "
            f"--hc-loss abs or l2 and a higher --hc-weight, or with another loss and {pull} one"
        )
    if skippable and skipped > MAX_SKIP_SHARE * skippable:
        warnings.append(
            f"{skipped} of {skippable} layers that can be skipped are: more --a-warmup-epochs, a "
            f"lower --a-lr, or a higher --target-hc"
        )
    return rows, warnings
