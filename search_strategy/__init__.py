"""Search strategies as ask-tell objects, and the evaluator that scores what they ask."""

from search_strategy.evaluator import Evaluator
from search_strategy.evolution import EvolutionSearch
from search_strategy.history import History, SearchStrategy, read_scores, run_search
from search_strategy.random_search import RandomSearch

STRATEGIES = {"random": RandomSearch, "evolution": EvolutionSearch}

__all__ = [
    "STRATEGIES",
    "Evaluator",
    "EvolutionSearch",
    "History",
    "RandomSearch",
    "SearchStrategy",
    "read_scores",
    "run_search",
]
