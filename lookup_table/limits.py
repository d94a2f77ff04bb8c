"""Limits on costs: `--limit METRIC=VALUE[:MIN]`, and the same in single costs of a table.

A limit holds METRIC between MIN and VALUE, both in the metric's unit (M MACs, M params, ms, MB), or
as `60%` of what the space's largest network costs.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lookup_table.table import MILLION, LookupTable
from utils.metrics import in_millions

log = logging.getLogger("oneshot_nas")
MOST = 1e12  # of a bound, in its unit: single costs stay below 2^63
SLIPS = (1e-6, 1e-3, 1e3, 1e6)  # factors between the unit of a limit and one it is mistaken for
FLAG = re.compile(r"(?P<metric>[a-z][a-z0-9_]{0,30})=(?P<high>[^:=]+)(:(?P<low>[^:=]+))?")
FORM = "METRIC=VALUE[:MIN] such as params=4, latency=12:6 or flops=60%"


@dataclass(frozen=True)
class Bound:
    """One end of a limit: in the metric's unit, or in percent of the largest network."""

    value: float
    percent: bool = False

    def cost(self, table: LookupTable, metric: str) -> int:
        """The bound in single costs."""
        if self.percent:
            return math.floor(self.value * table.range(metric)[1] / 100)
        return round(self.value * MILLION)


@dataclass(frozen=True)
class LimitFlag:
    """A limit as the user wrote it; None is no bound."""

    metric: str
    high: Bound | None
    low: Bound | None = None

    def resolve(self, table: LookupTable) -> Limit:
        """The same limit in single costs."""
        low, high = (
            None if bound is None else bound.cost(table, self.metric)
            for bound in (self.low, self.high)
        )
        return Limit(self.metric, low, high)


@dataclass(frozen=True)
class Limit:
    """A metric's bounds in single costs, both inclusive; None is no bound."""

    metric: str
    low: int | None
    high: int | None

    def text(self, table: LookupTable) -> str:
        """The limit for people, such as `params from 1.000 to 4.000 M`."""
        ends = [in_millions(end) for end in (self.low, self.high) if end is not None]
        words = {(True, False): "of at least", (False, True): "of at most", (True, True): "from"}
        word = words.get((self.low is not None, self.high is not None), "of any size")
        metric = table.metric(self.metric)
        return " ".join((metric.name, word, " to ".join(ends), metric.unit))


def parse_limit(text: str) -> LimitFlag:
    """`METRIC=VALUE[:MIN]`; VALUE and MIN are numbers above 0, or such with %, or `none`.

    Raises:
        ValueError: the text has another form.
    """
    match = FLAG.fullmatch(text.replace(" ", ""))
    if match is None:
        raise ValueError(f"{text!r} is not {FORM}")
    high = _bound(match["high"], text)
    low = None if match["low"] is None else _bound(match["low"], text)
    if high is None and low is None:
        raise ValueError(f"{text!r} limits nothing; give {FORM}")
    if high and low and high.percent == low.percent and low.value > high.value:
        raise ValueError(f"{text!r}: the lowest value comes second, as in latency=12:6")
    return LimitFlag(match["metric"], high, low)


def _bound(word: str, text: str) -> Bound | None:
    if word == "none":
        return None
    try:
        value = float(word.removesuffix("%"))
    except ValueError:
        value = math.nan
    if not 0 < value <= MOST:
        raise ValueError(
            f"{text!r}: {word!r} is neither a number above 0 and at most {MOST:g}, nor one "
            f"with %; give {FORM}"
        )
    return Bound(value, word.endswith("%"))


def unit_guess(cost: int, table: LookupTable, metric: str) -> str:
    """Ask about a cost that no architecture has, if it is one in another unit; else nothing."""
    lowest, highest = table.range(metric)
    meant = [cost * slip for slip in SLIPS if lowest <= cost * slip <= highest]
    return f" (did you mean {meant[0] / MILLION:.4g} {table.unit(metric)}?)" if meant else ""


def check_upper(flag: str, limit: Limit, table: LookupTable, may_exceed: bool = False) -> None:
    """Refuse an upper end that limits nothing, as it is mostly a value in another unit.

    Args:
        flag: that set it, for the message.
        may_exceed: refuse it only where another unit would explain it; else say so in the log.

    Raises:
        ValueError: it is above the most expensive architecture.
    """
    highest, unit = table.range(limit.metric)[1], table.unit(limit.metric)
    if limit.high is None or limit.high <= highest:
        return
    if (given := in_millions(limit.high)) == (largest := in_millions(highest)):
        return  # the largest as it is printed
    text = f"{flag}: {given} {unit} is more than the largest network of this space has ({largest}"
    guess = unit_guess(limit.high, table, limit.metric)
    if may_exceed and not guess:
        log.info(f"note: {text} {unit}), so it limits nothing")
        return
    raise ValueError(f"{text} {unit}){guess}; lower it, or leave the upper limit out (none)")


def resolve_limits(
    flags: Sequence[LimitFlag], table: LookupTable, taken: Collection[str] = ()
) -> list[Limit]:
    """The limits in single costs of a table.

    Args:
        taken: metrics that are limited by another flag (--info-metric by --target-hc).

    Raises:
        ValueError: a metric is unknown or limited twice; an upper end seems to be in another unit.
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
        check_upper(f"--limit {limit.metric}", limit, table, may_exceed=True)
    return limits


def run_limits(
    metric: str,
    low: float | None,
    high: float | None,
    further: Sequence[str],
    table: LookupTable,
) -> list[Limit]:
    """The limits of a run: --min-hc and --target-hc of --info-metric, then each --limit.

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
