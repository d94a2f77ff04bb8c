"""Flags of the budget, and of where latencies come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from config_file.arg_config.fields import BY_RECIPE, flag
from config_file.arg_config.types import budget, count, integer, number, path
from lookup_table import BudgetCounts, Limit, LookupTable
from utils.metrics import MILLION


@dataclass(frozen=True, kw_only=True)
class LatencyConfig:
    title: ClassVar[str] = "budget"

    lookup_table: Path | None = flag(
        None,
        path,
        "YAML or CSV of costs measured elsewhere, or a device's name; see docs/devices.md",
        "FILE|NAME",
    )
    latency_batch_size: int = flag(1, count, "images per run")
    latency_threads: int = flag(1, integer(1, 1024), "CPU threads")
    latency_seconds: float = flag(
        0.1, number(0, 3600, True), "least time per block, in several turns; the median counts"
    )


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """The limits of a search; `median` is a number after `resolve`."""

    title: ClassVar[str] = "budget"

    info_metric: str = flag(
        "flops",
        str,
        "what the budget limits; latency is measured here if no table brings it, and a table can "
        "bring any other metric",
        "{flops,params,latency}",
    )
    target_hc: float | str | None = flag(
        None,
        budget,
        "upper limit in millions of MACs or params, or ms; median of all architectures; none",
        marks=[BY_RECIPE],
    )
    min_hc: float | str | None = flag(
        None, budget, "lower limit, likewise (default: none)", "M|none"
    )

    def resolve(self, table: LookupTable) -> BudgetConfig:
        """The limits with the median of all architectures as a number."""
        if "median" not in (self.target_hc, self.min_hc):
            return self
        median = BudgetCounts(table, self.info_metric).median / MILLION
        target, least = (median if hc == "median" else hc for hc in (self.target_hc, self.min_hc))
        return replace(self, target_hc=target, min_hc=least)

    @property
    def limit(self) -> Limit:
        """The resolved limits in single costs."""
        bounds = (self.min_hc, self.target_hc)
        low, high = (None if hc is None else round(float(hc) * MILLION) for hc in bounds)
        return Limit(self.info_metric, low, high)
