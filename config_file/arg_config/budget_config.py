"""Flags of the budget, and of where latencies come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from config_file.arg_config.data_config import BY_DATASET
from config_file.arg_config.fields import flag
from config_file.arg_config.types import budget, integer, number, path
from lookup_table import Limit
from lookup_table.table import MILLION


@dataclass(frozen=True, kw_only=True)
class LatencyConfig:
    title: ClassVar[str] = "budget"

    lookup_table: Path | None = flag(
        None,
        path,
        "YAML or CSV of costs measured elsewhere, or a device's name; see docs/devices.md",
        "FILE|NAME",
    )
    latency_batch_size: int = flag(1, integer(1), "images per run", "N")
    latency_threads: int = flag(1, integer(1, 1024), "CPU threads", "N")
    latency_seconds: float = flag(
        0.1,
        number(0, 3600, open_low=True),
        "least time per block, in several turns; the median counts",
        "F",
    )


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
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
        "upper limit in millions of MACs or params, or ms; median of all architectures; none "
        f"({BY_DATASET})",
        "M|median|none",
    )
    min_hc: float | str | None = flag(
        None, budget, "lower limit, likewise (default: none)", "M|none"
    )

    @property
    def limit(self) -> Limit:
        """The resolved limits in single costs."""
        bounds = (self.min_hc, self.target_hc)
        low, high = (None if hc is None else round(float(hc) * MILLION) for hc in bounds)
        return Limit(self.info_metric, low, high)
