"""Costs of architectures: the table per layer and choice, and exact sampling within a budget."""

from lookup_table.budget import Budget, BudgetCounts, architecture_keys
from lookup_table.builder import load_table
from lookup_table.table import METRICS, UNIT, LookupTable, in_millions

__all__ = [
    "METRICS",
    "UNIT",
    "Budget",
    "BudgetCounts",
    "LookupTable",
    "architecture_keys",
    "in_millions",
    "load_table",
]
