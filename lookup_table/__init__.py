"""Costs of architectures: the table per layer and choice, and exact sampling within a budget."""

from lookup_table.budget import Budget, architecture_keys
from lookup_table.builder import load_table
from lookup_table.counts import BudgetCounts
from lookup_table.equivalence import SKIPS_FIRST, SKIPS_LAST, Equivalence
from lookup_table.latency import LatencySettings
from lookup_table.limited import LimitedBudget, build_budget
from lookup_table.limits import Limit, LimitFlag, parse_limit, resolve_limits
from lookup_table.load import load_costs
from lookup_table.memory import MEMORY_METRICS, add_memory
from lookup_table.table import METRICS, UNIT, LookupTable, in_millions
from lookup_table.user_table import read_user_table, user_table_text

__all__ = [
    "MEMORY_METRICS",
    "METRICS",
    "SKIPS_FIRST",
    "SKIPS_LAST",
    "UNIT",
    "Budget",
    "BudgetCounts",
    "Equivalence",
    "LatencySettings",
    "Limit",
    "LimitFlag",
    "LimitedBudget",
    "LookupTable",
    "add_memory",
    "architecture_keys",
    "build_budget",
    "in_millions",
    "load_costs",
    "load_table",
    "parse_limit",
    "read_user_table",
    "resolve_limits",
    "user_table_text",
]
