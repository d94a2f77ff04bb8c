"""Kinds of flag values. argparse turns their errors into `argument --flag: ...`."""

from __future__ import annotations

import contextlib
import math
from argparse import Action, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")
N = TypeVar("N", int, float)
MOST = 1_000_000_000  # of anything that is counted; what is larger is a slip of the finger
MOST_MILLIONS = 1e12  # of a budget: single MACs stay below 2^63


@dataclass(frozen=True)
class Kind(Generic[T]):
    """The parser of a word, and what --help shows in its place."""

    parse: Callable[[str], T]
    metavar: str | None = None
    is_list: bool = False  # parse gives a list

    def __call__(self, text: str) -> T:
        return self.parse(text)


def _within(
    make: Callable[[str], N], low: N, high: N, is_open: bool, what: str, metavar: str
) -> Kind[N]:
    def parse(text: str) -> N:
        with contextlib.suppress(ValueError):
            value = make(text)
            if low <= value <= high and value != math.inf and not (is_open and value == low):
                return value
        raise ArgumentTypeError(f"{text!r} is not {what}")

    return Kind(parse, metavar)


def integer(low: int, high: int = MOST) -> Kind[int]:
    """Parse an integer of at least `low`, at most `high`."""
    upper = f" to {high}" if high < MOST else f" upwards (at most {MOST:,})"
    return _within(int, low, high, False, f"an integer from {low}{upper}", "N")


def number(low: float, high: float = math.inf, open_low: bool = False) -> Kind[float]:
    """Parse a finite number in [low, high], or (low, high]."""
    bounds = f"{'above' if open_low else 'from'} {low:g}"
    bounds += f" to {high:g}" if math.isfinite(high) else ""
    return _within(float, low, high, open_low, f"a number {bounds}", "F")


def or_word(kind: Kind[T], words: Mapping[str, U], what: str, metavar: str) -> Kind[T | U]:
    """Parse a value, or one of some words; `what` is the rest of "is neither ..."."""

    def parse(text: str) -> T | U:
        if text in words:
            return words[text]
        try:
            return kind(text)
        except ArgumentTypeError:
            raise ArgumentTypeError(f"{text!r} is neither {what}") from None

    return Kind(parse, metavar, kind.is_list)


def several(kind: Kind[T], what: str, metavar: str, length: int | None = None) -> Kind[list[T]]:
    """Parse values with commas between them, any number or `length`; `what` ends "is not ..."."""

    def parse(text: str) -> list[T]:
        try:
            values = [kind(part) for part in text.split(",")]
        except ArgumentTypeError:
            values = []
        if not values or length not in (None, len(values)):
            raise ArgumentTypeError(f"{text!r} is not {what}")
        return values

    return Kind(parse, metavar, is_list=True)


def one_of(names: Mapping[str, str]) -> Kind[str]:
    """Parse any accepted spelling of a name into the name used inside."""

    def parse(text: str) -> str:
        if text not in names:
            raise ArgumentTypeError(f"{text!r} is unknown; choose one of {', '.join(names)}")
        return names[text]

    return Kind(parse)


def _limits(text: str) -> list[str]:
    from lookup_table import parse_limit

    words = ["".join(word.split()) for word in text.split(",") if word]
    try:
        for word in words:
            parse_limit(word)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    return words


def _jitter(text: str) -> list[float]:
    values = several(number(0), "", "", length=4)(text)
    if values[3] > 0.5:  # the hue's range
        raise ArgumentTypeError(text)
    return values


def _path(text: str) -> Path:
    if "\0" in text or not text:
        raise ArgumentTypeError(f"{text!r} is not a path")
    return Path(text)


def _epochs(text: str) -> float:
    value = number(0, MOST)(text)
    if value > 1 and value % 1:
        raise ArgumentTypeError(f"{text!r} is neither a whole number of epochs nor a share below 1")
    return value


path = Kind(_path, "FILE")
epochs_or_share = Kind(_epochs, "N|SHARE")
positive = number(0, open_low=True)
count = integer(1)
budget = or_word(
    number(0, MOST_MILLIONS, open_low=True),
    {"median": "median", "none": None},
    f"a number above 0 and at most {MOST_MILLIONS:g}, median nor none",
    "M|median|none",
)
threads = or_word(
    integer(1, 1024), {"auto": "auto"}, "an integer from 1 to 1024 nor auto", "N|auto"
)
jitter = or_word(
    Kind(_jitter, is_list=True),
    {"none": None},
    "none nor four numbers such as 0.4,0.4,0.4,0.1, the last from 0 to 0.5",
    "B,C,S,H|none",
)
limits = Kind(_limits, "METRIC=VALUE[:MIN]", is_list=True)
widths = several(count, "a list of positive integers such as 32,16,24", "N,N,...")
numbers = several(positive, "a list of numbers above 0 such as 48,63.5", "M,M,...")
betas = several(
    number(0, 0.999999), "two numbers from 0 to below 1 such as 0.5,0.999", "F,F", length=2
)


def words(text: str) -> list[str]:
    """Split words with commas between them."""
    return [word for word in text.split(",") if word]


class Words(Action):
    """Store a list of words with spaces or commas between them; of `type=words, nargs="+"`."""

    def __call__(
        self,
        parser: ArgumentParser,
        args: Namespace,
        values: Any,  # list[list[str]]
        option: str | None = None,
    ) -> None:
        setattr(args, self.dest, [word for part in values for word in part])


class Limits(Action):
    """Store a limit per metric, of `type=limits`: of repeated flags the last of a metric wins."""

    def __call__(
        self,
        parser: ArgumentParser,
        args: Namespace,
        values: Any,  # list[str]
        option: str | None = None,
    ) -> None:
        by_metric = {text.split("=")[0]: text for text in (*getattr(args, self.dest), *values)}
        setattr(args, self.dest, tuple(by_metric.values()))
