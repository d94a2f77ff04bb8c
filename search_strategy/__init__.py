"""Search strategies as ask-tell objects, and the evaluator that scores what they ask."""

from search_strategy.differentiable import (
    ArchitectureTraining,
    DifferentiableSearch,
    log_probability,
)
from search_strategy.evaluator import Evaluator
from search_strategy.evolution import EvolutionSearch
from search_strategy.hardware_loss import HC_LOSSES, HardwareLoss
from search_strategy.history import History, SearchStrategy, read_scores, run_search
from search_strategy.random_search import RandomSearch

STRATEGIES = {
    "random": RandomSearch,
    "evolution": EvolutionSearch,
    "differentiable": DifferentiableSearch,
}

__all__ = [
    "HC_LOSSES",
    "STRATEGIES",
    "ArchitectureTraining",
    "DifferentiableSearch",
    "Evaluator",
    "EvolutionSearch",
    "HardwareLoss",
    "History",
    "RandomSearch",
    "SearchStrategy",
    "log_probability",
    "read_scores",
    "run_search",
]
