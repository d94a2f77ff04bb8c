"""Metrics of cost: name, unit, and scale in files. Everything that shows a cost asks here.

In lookup tables every cost is an integer, a millionth of its unit. Files (history.csv,
best_architecture.yaml) hold single MACs and params, and all other costs in their unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

MILLION = 1e6
METRICS = ("flops", "params")  # what every table has: counts, stored as single ones
VALIDATION_TOP1 = "validation top-1"
SHARED_UNITS = ("MB",)  # units that do not tell which metric a number is of
TRUE_ACCURACY = "true accuracy"  # of a benchmark, in place of a supernet's


@dataclass(frozen=True)
class Metric:
    """One cost. Its values here are in `unit`, unless they are called stored."""

    key: str  # column of history.csv, value of --info-metric
    name: str
    unit: str
    scale: float = 1.0  # stored value * scale = value in `unit`

    @property
    def label(self) -> str:
        """Name and unit, for axes and columns: MACs (M)."""
        return self.name if self.unit == self.name else f"{self.name} ({self.unit})"

    @property
    def full_unit(self) -> str:
        """The unit where no name stands beside it: M MACs, ms."""
        told = self.scale == 1 and self.unit not in SHARED_UNITS  # by the unit alone
        return self.unit if told or self.name in self.unit else f"{self.unit} {self.name}"

    def show(self, value: float) -> str:
        """A value behind the metric's name: 5.871 M."""
        return f"{number(value)} {self.unit}"

    def show_alone(self, value: float) -> str:
        """A value where no name stands beside it: 5.871 M MACs."""
        return f"{number(value)} {self.full_unit}"


KNOWN = {
    "flops": Metric("flops", "MACs", "M", 1e-6),
    "params": Metric("params", "params", "M", 1e-6),
    "latency": Metric("latency", "latency", "ms"),
    "peak_memory": Metric("peak_memory", "peak memory", "MB"),
    "weights": Metric("weights", "weights", "MB"),
}


def metric_of(key: str, unit: str | None = None) -> Metric:
    """The metric of a table or a run.

    Args:
        unit: what the table says, if it says it; the default of a user's metric is its name.
    """
    metric = KNOWN.get(key) or Metric(key, key, key)
    known = (None, metric.unit, metric.full_unit)
    return metric if unit in known else replace(metric, unit=str(unit))


def number(value: float) -> str:
    """A cost for people: as many digits as tell two networks apart."""
    return f"{value:.3g}" if 0 < abs(value) < 0.01 else f"{value:,.3f}"


def in_millions(cost: float) -> str:
    """A cost of a lookup table, for people, in its unit."""
    return number(cost / MILLION)


def accuracy_name(oracle: object) -> str:
    """Name of what `top1` holds in a run with this value of --oracle."""
    return VALIDATION_TOP1 if oracle is None else TRUE_ACCURACY


def standard_error(top1: float, images: int) -> float:
    """Binomial standard error of an accuracy over so many images; both in percent."""
    return math.sqrt(top1 * (100 - top1) / images)


def accuracy_text(top1: float, images: int | None) -> str:
    """An accuracy in percent with its standard error, if its number of images is known."""
    error = "" if images is None else f" ± {standard_error(top1, images):.2f}"
    return f"{top1:.2f} %{error}"
