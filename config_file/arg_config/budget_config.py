"""Flags of the budget, and of where latencies come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from config_file.arg_config.fields import BY_RECIPE, flag
from config_file.arg_config.types import Limits, budget, count, integer, limits, number, path
from lookup_table import Limit, LookupTable, median_cost, parse_limit, resolve_limits, run_limits
from utils.metrics import MILLION

if TYPE_CHECKING:
    import torch

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
    latency_batch_size: int = flag(1, count, "images per run")
    latency_threads: int = flag(1, integer(1, 1024), "CPU threads")
    latency_seconds: float = flag(
        0.1, number(0, 3600, True), "least time per block, in several turns; the median counts"
    )
    latency_correction: int = flag(
        0,
        integer(0, 1000),
        "whole networks that are measured too, to scale all blocks by one factor; 0 is none",
        "N",
    )

    def settings(self, device: torch.device) -> LatencySettings:
        """Return the settings of a measurement on the device."""
        from lookup_table.latency import LatencySettings  # lazily, as it loads torch

        return LatencySettings(
            device=device,
            batch_size=self.latency_batch_size,
            threads=self.latency_threads,
            seconds=self.latency_seconds,
            correction=self.latency_correction,
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

    limit: tuple[str, ...] = flag(
        (),
        limits,
        "a further limit, such as params=4, latency=12:6 or flops=60%% (of the largest network), "
        "of peak_memory, weights or any other metric; may be repeated (default: none)",
        "METRIC=VALUE[:MIN]",
        action=Limits,
    )
    memory_dtype: str = flag(
        "float32", ("float32", "int8"), "type that peak_memory and weights are counted for"
    )

    @property
    def metrics(self) -> list[str]:
        """The costs that are limited."""
        return [self.info_metric, *(parse_limit(text).metric for text in self.limit)]

    def resolve(self, table: LookupTable, typed: frozenset[str]) -> BudgetConfig:
        """Fill in numbers for the median and for a --limit of --info-metric.

        Such a --limit takes the place of what a recipe or file says of --target-hc and --min-hc.

        Args:
            typed: flags that stand on the command line.

        Raises:
            ValueError: that limit is unusable, or --target-hc or --min-hc is typed beside it.
        """
        metric, low, high = self.info_metric, self.min_hc, self.target_hc
        own = [text for text in self.limit if parse_limit(text).metric == metric]
        if own:
            taken = [metric] if typed & {"target_hc", "min_hc"} else []
            (limit,) = resolve_limits([parse_limit(own[0])], table, taken)
            low, high = (None if end is None else end / MILLION for end in (limit.low, limit.high))
        elif "median" in (low, high):
            median = median_cost(table, metric) / MILLION
            low, high = (median if end == "median" else end for end in (low, high))
        others = tuple(text for text in self.limit if text not in own)
        return replace(self, min_hc=low, target_hc=high, limit=others)

    @property
    def window(self) -> tuple[float | None, float | None]:
        """--min-hc and --target-hc of a resolved budget."""
        low, high = (None if end is None else float(end) for end in (self.min_hc, self.target_hc))
        return low, high

    def limits(self, table: LookupTable) -> list[Limit]:
        """The limits in single costs, that of --info-metric first; of a resolved budget.

        Raises:
            ValueError: a limit is unusable, such as one above the largest network.
        """
        return run_limits(self.info_metric, *self.window, self.limit, table)
