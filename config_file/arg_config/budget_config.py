"""Flags of the budget, and of where latencies come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from config_file.arg_config.data_config import BY_DATASET
from config_file.arg_config.fields import flag
from config_file.arg_config.types import budget, integer, number, path

if TYPE_CHECKING:
    from lookup_table.latency import LatencySettings


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
    latency_correction: int = flag(
        0,
        integer(0, 1000),
        "whole networks that are measured too, to scale all blocks by one factor; 0 is none",
        "N",
    )

    @property
    def settings(self) -> LatencySettings:
        """How latency is measured."""
        from lookup_table.latency import LatencySettings  # lazily, as it loads torch

        return LatencySettings(
            batch_size=self.latency_batch_size,
            threads=self.latency_threads,
            seconds=self.latency_seconds,
            correction=self.latency_correction,
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
