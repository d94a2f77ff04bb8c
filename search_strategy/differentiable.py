"""Differentiable search (DARTS, https://arxiv.org/abs/1806.09055): derive the answer.

Training the supernet is the search (`sampler.alpha`). The strategy derives the architecture from
the learned architecture parameters: the most probable one within the budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lookup_table.knapsack import most_probable
from search_strategy.history import write_candidate
from search_strategy.strategy import Findings, FinishedSearch, SearchStrategy, StrategyConfig


class DifferentiableSearch(SearchStrategy[StrategyConfig]):
    """Ask-tell: asks for one architecture, the most probable within the budget."""

    aliases = ("gradient",)
    needs_prior = True
    by_score = False
    total = 1

    def ask(self) -> np.ndarray:
        """Return the answer, int [1, L], then none."""
        assert self.prior is not None
        return most_probable(self.prior, self.budget)[None][: 0 if self.seen else 1]

    def findings(self, search: FinishedSearch) -> Findings:
        """Write the most probable architecture without a budget; report convergence."""
        from sampler.convergence import convergence_rows  # lazily: --help does not wait for torch

        assert self.prior is not None
        space, table, metric = search.history.space, search.history.table, search.metric
        free = self.prior.argmax(1)  # [L]; 0 beyond a layer's choices
        file = search.folder / "unconstrained_architecture.yaml"
        top1 = float(search.top1(free[None])[0])  # it may be outside the budget
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
        caveat = super().findings(search).caveat
        tables = {"most probable architecture without a budget": table_rows}
        return Findings(rows, caveat, tables, self.prior, warnings)


def log_probability(probabilities: np.ndarray, architecture: np.ndarray) -> float:
    """Return the log-probability in nats of an architecture [L] of independent layers."""
    chosen = probabilities[np.arange(len(architecture)), architecture]
    return float(np.log(np.maximum(chosen, 1e-300)).sum())  # finite: two are subtracted


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
        return cls(probabilities, not state["config"].get("one_level", False))  # see --one-level
