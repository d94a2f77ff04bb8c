"""Search strategies as ask-tell objects, and the evaluator that scores what they ask."""

from search_strategy.additive import AdditiveSearch, smoothed
from search_strategy.build import build_strategy, set_prior
from search_strategy.controls import uncalibrated_top1
from search_strategy.convergence import convergence_rows
from search_strategy.differentiable import (
    ArchitectureTraining,
    DifferentiableSearch,
    log_probability,
)
from search_strategy.evaluator import Evaluator
from search_strategy.evolution import EvolutionSearch
from search_strategy.front import save_front
from search_strategy.hardware_loss import HC_LOSSES, HardwareLoss
from search_strategy.history import (
    History,
    SearchStrategy,
    candidate_facts,
    read_scores,
    run_search,
)
from search_strategy.oracle import Oracle
from search_strategy.pareto import ParetoSearch
from search_strategy.random_search import RandomSearch
from search_strategy.report import SearchReport
from search_strategy.scoring import CandidateLog, LoggedScores

STRATEGIES = {
    "random": RandomSearch,
    "evolution": EvolutionSearch,
    "pareto": ParetoSearch,
    "additive": AdditiveSearch,
    "differentiable": DifferentiableSearch,
}

__all__ = [
    "HC_LOSSES",
    "STRATEGIES",
    "AdditiveSearch",
    "ArchitectureTraining",
    "CandidateLog",
    "DifferentiableSearch",
    "Evaluator",
    "EvolutionSearch",
    "HardwareLoss",
    "History",
    "LoggedScores",
    "Oracle",
    "ParetoSearch",
    "RandomSearch",
    "SearchReport",
    "SearchStrategy",
    "build_strategy",
    "candidate_facts",
    "convergence_rows",
    "log_probability",
    "read_scores",
    "run_search",
    "save_front",
    "set_prior",
    "smoothed",
    "uncalibrated_top1",
]
