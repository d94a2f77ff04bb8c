"""Limits on costs: `--limit METRIC=VALUE[:MIN]`, and the same in single costs of a table.

A limit holds METRIC between MIN and VALUE, both in the metric's unit (M MACs, M params, ms, MB), or
as `60%` of what the space's largest network costs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lookup_table.table import MILLION, LookupTable
from utils.metrics import in_millions

MOST = 1e12  # of a bound, in its unit: single costs stay below 2^63
SLIPS = (1e-6, 1e-3, 1e3, 1e6)  # factors between the unit of a limit and one it is mistaken for
FLAG = re.compile(r"(?P<metric>[a-z][a-z0-9_]{0,30})=(?P<high>[^:=]+)(:(?P<low>[^:=]+))?")
FORM = "METRIC=VALUE[:MIN] such as params=4, latency=12:6 or flops=60%"


@dataclass(frozen=True)
class LimitFlag:
    """A limit as the user wrote it: ends in the metric's unit, or `N%` of the largest network."""

    metric: str
    high: str | None
    low: str | None = None

    def resolve(self, table: LookupTable) -> Limit:
        """Return the same limit in single costs."""
        return Limit(self.metric, self._cost(self.low, table), self._cost(self.high, table))

    def _cost(self, end: str | None, table: LookupTable) -> int | None:
        if end is None:
            return None
        if end.endswith("%"):
            return math.floor(float(end[:-1]) * table.range(self.metric)[1] / 100)  # at most N %
        return round(float(end) * MILLION)


@dataclass(frozen=True)
class Limit:
    """A metric's bounds in single costs, both inclusive; None is no bound."""

    metric: str
    low: int | None
    high: int | None

    def span(self, table: LookupTable) -> tuple[int, int]:
        """Return both bounds; the end of the table's range stands in for a missing one."""
        lowest, highest = table.range(self.metric)
        return (
            lowest if self.low is None else self.low,
            highest if self.high is None else self.high,
        )

    def text(self, table: LookupTable) -> str:
        """Describe the limit for people, such as `params from 1.000 to 4.000 M`."""
        ends = [in_millions(end) for end in (self.low, self.high) if end is not None]
        words = {(True, False): "of at least", (False, True): "of at most", (True, True): "from"}
        word = words.get((self.low is not None, self.high is not None), "of any size")
        metric = table.metric(self.metric)
        return " ".join((metric.name, word, " to ".join(ends), metric.unit))


def parse_limit(text: str) -> LimitFlag:
    """Read `METRIC=VALUE[:MIN]`; VALUE and MIN are numbers above 0, or such with %, or `none`.

    Raises:
        ValueError: the text has another form.
    """
    match = FLAG.fullmatch(text.replace(" ", ""))
    if match is None:
        raise ValueError(f"{text!r} is not {FORM}")
    values = {}
    for end in ("high", "low"):
        if (word := match[end]) not in (None, "none"):
            try:
                values[end] = float(word.removesuffix("%"))
            except ValueError:
                values[end] = math.nan
            if not 0 < values[end] <= MOST:
                raise ValueError(
                    f"{text!r}: {word!r} is neither a number above 0 and at most {MOST:g}, nor one "
                    f"with %; give {FORM}"
                )
    if not values:
        raise ValueError(f"{text!r} limits nothing; give {FORM}")
    high, low = (match[end] if end in values else None for end in ("high", "low"))
    if high and low and high.endswith("%") == low.endswith("%") and values["low"] > values["high"]:
        raise ValueError(f"{text!r}: the lowest value comes second, as in latency=12:6")
    return LimitFlag(match["metric"], high, low)


def unit_guess(cost: int, table: LookupTable, metric: str) -> str:
    """Ask whether a cost that no architecture has is meant in another unit, if one fits."""
    lowest, highest = table.range(metric)
    meant = [cost * slip for slip in SLIPS if lowest <= cost * slip <= highest]
    return f" (did you mean {meant[0] / MILLION:.4g} {table.unit(metric)}?)" if meant else ""


def check_upper(flag: str, limit: Limit, table: LookupTable) -> None:
    """Refuse an upper end above the largest network: mostly it is a value in another unit.

    Args:
        flag: that set it, for the message.

    Raises:
        ValueError: it is above; the message guesses the unit that was meant.
    """
    highest, unit = table.range(limit.metric)[1], table.unit(limit.metric)
    if limit.high is None or limit.high <= highest:
        return
    if (given := in_millions(limit.high)) == (largest := in_millions(highest)):
        return  # the largest as it is printed
    raise ValueError(
        f"{flag}: {given} {unit} is more than the largest network of this space has ({largest} "
        f"{unit}){unit_guess(limit.high, table, limit.metric)}; lower it, or leave the upper limit "
        f"out"
    )


def resolve_limits(
    flags: Sequence[LimitFlag], table: LookupTable, taken: Collection[str] = ()
) -> list[Limit]:
    """Return the limits in single costs of a table.

    Args:
        taken: metrics that are limited by another flag (--info-metric by --target-hc).

    Raises:
        ValueError: a metric is unknown or limited twice; an upper end is above the largest network.
    """
    seen = set(taken)
    for flag in flags:
        if flag.metric not in table.metrics:
            raise ValueError(
                f"--limit {flag.metric}: the metric is unknown; take one of "
                f"{', '.join(table.metrics)}, or bring a --lookup-table"
            )
        if flag.metric in seen:
            other = "--target-hc and --min-hc" if flag.metric in taken else "another --limit"
            raise ValueError(
                f"--limit {flag.metric}: it is limited by {other} already; give one of them"
            )
        seen.add(flag.metric)
    limits = [flag.resolve(table) for flag in flags]
    for limit in limits:
        check_upper(f"--limit {limit.metric}", limit, table)
    return limits


def run_limits(
    metric: str, low: float | None, high: float | None, further: Sequence[str], table: LookupTable
) -> list[Limit]:
    """Return the limits of a run: --min-hc and --target-hc of --info-metric, then each --limit.

    Args:
        low, high: in the metric's unit; None is no bound.
        further: as `parse_limit` reads them.

    Raises:
        ValueError: a limit is unusable; see `resolve_limits`.
    """
    ends = (None if end is None else round(float(end) * MILLION) for end in (low, high))
    first = Limit(metric, *ends)
    check_upper("--target-hc", first, table)
    return [first, *resolve_limits([parse_limit(text) for text in further], table, [metric])]
