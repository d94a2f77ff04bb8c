"""Costs of architectures: the table per layer and choice, and exact sampling within a budget."""

from lookup_table.budget import Budget, architecture_keys
from lookup_table.builder import load_table
from lookup_table.counts import BudgetCounts
from lookup_table.equivalence import SKIPS_FIRST, SKIPS_LAST, Equivalence
from lookup_table.latency import LatencySettings
from lookup_table.load import load_costs
from lookup_table.table import LookupTable
from lookup_table.user_table import read_user_table, user_table_text
from utils.metrics import METRICS, in_millions

__all__ = [
    "METRICS",
    "SKIPS_FIRST",
    "SKIPS_LAST",
    "Budget",
    "BudgetCounts",
    "Equivalence",
    "LatencySettings",
    "LookupTable",
    "architecture_keys",
    "in_millions",
    "load_costs",
    "load_table",
    "read_user_table",
    "user_table_text",
]
