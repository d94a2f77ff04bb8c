"""The plan of a search that --dry-run prints: sizes, candidates, files."""

from __future__ import annotations

from config_file.arg_config.search_config import SearchConfig
from lookup_table import Budget, Equivalence, in_millions
from model import SearchSpace
from search_strategy.strategy import SearchStrategy
from utils.report import TRAINING_FILES, plan_text

SEARCH_FILES = "candidates.log, history.csv, best_architecture.yaml, pareto.png, report.html"
SINGLE_CONTROL = 20  # random candidates beside a search that scores one architecture


def control_size(candidates: int) -> int:
    """Return the number of random candidates to compare a search of so many candidates with."""
    return candidates if candidates > 1 else SINGLE_CONTROL


def size_text(space: SearchSpace, networks: Equivalence) -> str:
    """Format the number of codes and of different networks."""
    return f"{space.size:.4g} encodings of {networks.size:.4g} networks"


def count_text(budget: Budget) -> str:
    """Format the number of networks within the budget; an estimate if it cannot be counted."""
    return f"{'' if budget.countable else 'about '}{budget.count:.4g}"


def space_text(space: SearchSpace, networks: Equivalence, budget: Budget) -> str:
    """Describe the space and the part of it that is searched, for the log."""
    table, metric = budget.counts.table, budget.counts.metric
    low, high = (in_millions(cost) for cost in table.range(metric))
    return (
        f"{space.name} at {space.input_size} px: {size_text(space, networks)}, {low} to {high} "
        f"{table.unit(metric)}, {count_text(budget)} within the budget"
    )


def limits_text(budget: Budget) -> str:
    """Format the range of the metric that counts, and all other limits."""
    table, metric = budget.counts.table, budget.counts.metric
    ends = f"{in_millions(budget.low)} to {in_millions(budget.high)} {table.unit(metric)}"
    others = [limit.text(table) for limit in budget.limits if limit.metric != metric]
    return ", ".join([ends, *others])


def search_plan(
    config: SearchConfig,
    space: SearchSpace,
    networks: Equivalence,
    budget: Budget,
    strategy: SearchStrategy,
    training: dict[str, str],
) -> str:
    """Format the plan; `training`: rows about the training of a supernet, if there is one."""
    run, table, metric = config.run, budget.counts.table, budget.counts.metric
    ranges = [
        "{} to {} {}".format(*(in_millions(cost) for cost in table.range(m)), table.unit(m))
        for m in dict.fromkeys(("flops", "params", metric, *config.budget.metrics))
    ]
    number = config.seeds * strategy.total  # at most: the searches share scores
    if config.random_control and not strategy.is_random:
        number += control_size(strategy.total)
    files = TRAINING_FILES if training else TRAINING_FILES.replace("supernet.pt, ", "")
    rows = {
        "search space": f"{space.num_layers} layers at {space.input_size} px, "
        f"{size_text(space, networks)}, {', '.join(ranges)}",
        "within the budget": f"{count_text(budget)} networks, {limits_text(budget)}",
        **training,
        "candidates": f"{number:,} to score",
        "files": f"{run.run_dir}/{run.title or '<title>'}/: {files}, {SEARCH_FILES}",
    }
    name = f"{config.search_strategy} search of {space.name} on {config.data.dataset}"
    return plan_text(name, rows)
