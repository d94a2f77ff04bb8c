"""Differentiable search (DARTS, https://arxiv.org/abs/1806.09055): the read-off.

Training the supernet is the search (`sampler.alpha`). What remains is to read the architecture off
its architecture parameters: the most probable one within the budget.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lookup_table import Budget
from lookup_table.knapsack import most_probable
from search_strategy.history import write_candidate
from search_strategy.strategy import Findings, FinishedSearch, SearchStrategy, StrategyConfig


class DifferentiableSearch(SearchStrategy):
    """Ask-tell: asks for one architecture, the most probable within the budget."""

    aliases = ("gradient",)
    needs_prior = True
    by_score = False

    def __init__(
        self,
        config: StrategyConfig,
        budget: Budget,
        rng: np.random.Generator,
        prior: np.ndarray | None = None,
    ) -> None:
        self.budget = budget
        self.prior = prior
        self.asked = False

    @property
    def total(self) -> int:
        """Most candidates that it will ask for."""
        return 1

    def ask(self) -> np.ndarray:
        """int [1, L], then none."""
        assert self.prior is not None
        found = most_probable(self.prior, self.budget)[None]
        return found[:0] if self.asked else found

    def tell(self, architectures: np.ndarray, scores: np.ndarray) -> None:
        self.asked = True

    def unconstrained(self) -> np.ndarray:
        """The most probable architecture of all, int [L]."""
        assert self.prior is not None
        return argmax_architecture(self.prior, self.budget.counts.num_choices)

    def findings(self, search: FinishedSearch) -> Findings:
        """Write the most probable architecture without a budget; report convergence."""
        from sampler.convergence import convergence_rows  # lazily: --help does not wait for torch

        assert self.prior is not None
        space, table, metric = search.history.space, search.history.table, search.metric
        free = self.unconstrained()
        file = search.folder / "unconstrained_architecture.yaml"
        top1 = float(search.top1(free[None])[0])
        facts = write_candidate(file, space, table, free, top1, "most probable, no budget")
        ahead = log_probability(self.prior, free) - log_probability(self.prior, search.answer)
        cost = table.metric(metric)
        table_rows = {
            "choices": " ".join(facts["choices"]),
            "cost": cost.show_alone(facts[metric] * cost.scale),
            "validation top-1": f"{facts['top1']:.2f} %",
            "log-probability": f"{ahead:.3f} nats above the architecture within the budget",
        }
        rows, warnings = convergence_rows(
            space, self.budget.counts, self.prior, search.answer, search.target
        )
        for number, warning in enumerate(warnings, 1):
            rows["warning" if number == 1 else f"warning {number}"] = warning
        caveat = ""
        if search.validation_trained:
            caveat = "optimistic: these images trained the architecture parameters"
        tables = {"most probable architecture without a budget": table_rows}
        return Findings(rows, caveat, tables, self.prior)


def argmax_architecture(probabilities: np.ndarray, num_choices: Iterable[int]) -> np.ndarray:
    """The most probable choice of each layer, int [L]."""
    return np.array(
        [int(row[:n].argmax()) for row, n in zip(probabilities, num_choices, strict=True)]
    )


def log_probability(probabilities: np.ndarray, architecture: np.ndarray) -> float:
    """Log-probability in nats of an architecture [L] whose layers are independent."""
    chosen = probabilities[np.arange(len(architecture)), architecture]
    return float(np.log(np.maximum(chosen, 1e-300)).sum())


@dataclass(frozen=True)
class Prior:
    """Choice probabilities that a supernet's training has learned.

    Attributes:
        probabilities: float [L, C], or None if it learned none.
        validation_trained: they were trained on the validation images.
    """

    probabilities: np.ndarray | None = None
    validation_trained: bool = False

    @classmethod
    def read(cls, state: dict, kind: type[SearchStrategy], path: Path) -> Prior:
        """Read the prior in a supernet's checkpoint.

        Raises:
            ValueError: the strategy needs probabilities, and there are none.
        """
        learned = state["sampler"].get("probabilities")
        if learned is None and kind.needs_prior:
            raise ValueError(
                f"checkpoint {path} has no architecture parameters to read an architecture from; "
                f"search it by evolution or random, or train one with --sample-strategy "
                f"differentiable"
            )
        probabilities = None if learned is None else learned.double().numpy()
        return cls(probabilities, not state["config"].get("one_level", False))
