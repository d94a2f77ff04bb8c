"""Search strategies as ask-tell objects, by name; nothing here loads torch: --help reads it."""

from search_strategy.additive import AdditiveSearch
from search_strategy.differentiable import DifferentiableSearch
from search_strategy.evolution import EvolutionSearch
from search_strategy.pareto import ParetoSearch
from search_strategy.random_search import RandomSearch
from search_strategy.strategy import SearchStrategy

STRATEGIES: dict[str, type[SearchStrategy]] = {
    "random": RandomSearch,
    "evolution": EvolutionSearch,
    "pareto": ParetoSearch,
    "additive": AdditiveSearch,
    "differentiable": DifferentiableSearch,
}
