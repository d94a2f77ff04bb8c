"""Costs of architectures: the table per layer and choice, and exact sampling within a budget.

These names load no torch, so that --help can read the strategies that use them. Tables are made in
`lookup_table.builder`, `latency` and `user_table`.
"""

import sys

from utils.startup import start_up

if sys.argv[:1] == ["-m"]:  # python -m lookup_table, which imports this before __main__
    start_up()

from lookup_table.budget import Budget, architecture_keys
from lookup_table.counts import BudgetCounts, median_cost
from lookup_table.equivalence import SKIPS_FIRST, SKIPS_LAST, Equivalence
from lookup_table.limited import LimitedBudget, build_budget
from lookup_table.limits import Limit, LimitFlag, parse_limit, resolve_limits, run_limits
from lookup_table.table import LookupTable
from utils.metrics import METRICS, in_millions

__all__ = [
    "METRICS",
    "SKIPS_FIRST",
    "SKIPS_LAST",
    "Budget",
    "BudgetCounts",
    "Equivalence",
    "Limit",
    "LimitFlag",
    "LimitedBudget",
    "LookupTable",
    "architecture_keys",
    "build_budget",
    "in_millions",
    "median_cost",
    "parse_limit",
    "resolve_limits",
    "run_limits",
]
