"""Search strategies as ask-tell objects, and the evaluator that scores what they ask."""

from search_strategy.controls import uncalibrated_top1
from search_strategy.evaluator import Evaluator
from search_strategy.evolution import EvolutionSearch
from search_strategy.front import save_front
from search_strategy.history import History, SearchStrategy, run_search
from search_strategy.oracle import Oracle
from search_strategy.pareto import ParetoSearch
from search_strategy.random_search import RandomSearch
from search_strategy.scoring import CandidateLog, LoggedScores

STRATEGIES = {"random": RandomSearch, "evolution": EvolutionSearch, "pareto": ParetoSearch}

__all__ = [
    "STRATEGIES",
    "CandidateLog",
    "Evaluator",
    "EvolutionSearch",
    "History",
    "LoggedScores",
    "Oracle",
    "ParetoSearch",
    "RandomSearch",
    "SearchStrategy",
    "run_search",
    "save_front",
    "uncalibrated_top1",
]
