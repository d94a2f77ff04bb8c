"""From a run's flags to its strategy."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np

from lookup_table import Budget
from search_strategy.additive import AdditiveSearch
from search_strategy.differentiable import DifferentiableSearch
from search_strategy.evolution import EvolutionSearch
from search_strategy.history import SearchStrategy
from search_strategy.pareto import ParetoSearch
from search_strategy.random_search import RandomSearch


def build_strategy(args: Namespace, budget: Budget, rng: np.random.Generator) -> SearchStrategy:
    """Raises ValueError where flags contradict each other."""
    if args.search_strategy == "random":
        return RandomSearch(budget, rng, args.random_iteration)
    if args.search_strategy == "additive":
        return AdditiveSearch(budget, rng, args.random_iteration)
    if args.search_strategy == "differentiable":
        return DifferentiableSearch(budget)
    shared = {
        "generation_num": args.generation_num,
        "population": args.population,
        "mutation_prob": args.mutation_prob,
        "crossover_prob": args.crossover_prob,
    }
    if args.search_strategy == "pareto":
        return ParetoSearch(budget, rng, tuple(args.objectives), **shared)
    return EvolutionSearch(
        budget,
        rng,
        parent_num=args.parent_num,
        aging=args.aging,
        patience=args.patience,
        **shared,
    )


def set_prior(strategy: SearchStrategy, state: dict, checkpoint: Path) -> None:
    """Give a strategy the choice probabilities of a differentiably trained supernet.

    Args:
        state: the content of its checkpoint.

    Raises:
        ValueError: a differentiable search, of a supernet that has none.
    """
    probabilities = state["sampler"].get("probabilities")
    if probabilities is None and isinstance(strategy, DifferentiableSearch):
        raise ValueError(
            f"checkpoint {checkpoint} has no architecture parameters to read an architecture from; "
            f"search it by evolution or random, or train one with --sample-strategy differentiable"
        )
    if probabilities is None:
        return
    if isinstance(strategy, (DifferentiableSearch, EvolutionSearch, ParetoSearch)):
        strategy.prior = probabilities.double().numpy()
