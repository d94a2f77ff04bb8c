"""Kinds of flag values. argparse turns their errors into `argument --flag: ...`."""

from __future__ import annotations

import math
from argparse import Action, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path

MOST = 1_000_000_000  # of anything that is counted; what is larger is a slip of the finger
MOST_MILLIONS = 1e12  # of a budget: single MACs stay below 2^63


def integer(low: int, high: int = MOST) -> Callable[[str], int]:
    """An integer of at least `low`, at most `high`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            upper = f" to {high}" if high < MOST else f" upwards (at most {MOST:,})"
            raise ArgumentTypeError(f"{text!r} is not an integer from {low}{upper}")
        return value

    return parse


def number(low: float, high: float = math.inf, open_low: bool = False) -> Callable[[str], float]:
    """A finite number in [low, high], or (low, high]."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and low <= value <= high) or (open_low and value == low):
            bounds = f"above {low:g}" if open_low else f"from {low:g}"
            upper = f" to {high:g}" if math.isfinite(high) else ""
            raise ArgumentTypeError(f"{text!r} is not a number {bounds}{upper}")
        return value

    return parse


def budget(text: str) -> float | str | None:
    """Millions, `median` (of all architectures) or `none`."""
    if text in ("median", "none"):
        return None if text == "none" else text
    try:
        return number(0, MOST_MILLIONS, open_low=True)(text)
    except ArgumentTypeError:
        raise ArgumentTypeError(
            f"{text!r} is neither a number above 0 and at most {MOST_MILLIONS:g}, median nor none"
        ) from None


def limits(text: str) -> list[str]:
    """Comma-separated `METRIC=VALUE[:MIN]`, which `lookup_table.parse_limit` reads."""
    from lookup_table import parse_limit

    words = ["".join(word.split()) for word in text.split(",") if word]
    try:
        for word in words:
            parse_limit(word)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    return words


def threads(text: str) -> int | str:
    """A number of CPU threads, or `auto`."""
    try:
        return text if text == "auto" else integer(1, 1024)(text)
    except ArgumentTypeError:
        raise ArgumentTypeError(f"{text!r} is neither an integer from 1 to 1024 nor auto") from None


def widths(text: str) -> list[int]:
    """Comma-separated positive integers."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = [0]
    if min(values) < 1:
        raise ArgumentTypeError(f"{text!r} is not a list of positive integers such as 32,16,24")
    return values


def numbers(text: str) -> list[float]:
    """Comma-separated numbers above 0."""
    try:
        return [number(0, open_low=True)(part) for part in text.split(",")]
    except ArgumentTypeError:
        raise ArgumentTypeError(
            f"{text!r} is not a list of numbers above 0 such as 48,63.5"
        ) from None


def betas(text: str) -> list[float]:
    """Two comma-separated numbers in [0, 1)."""
    try:
        values = [number(0, 0.999999)(part) for part in text.split(",")]
    except ArgumentTypeError:
        values = []
    if len(values) != 2:
        raise ArgumentTypeError(f"{text!r} is not two numbers from 0 to below 1 such as 0.5,0.999")
    return values


def path(text: str) -> Path:
    """A path of a file or folder."""
    if "\0" in text or not text:
        raise ArgumentTypeError(f"{text!r} is not a path")
    return Path(text)


def one_of(aliases: dict[str, str]) -> Callable[[str], str]:
    """A name out of `aliases` (every accepted spelling -> the name used inside)."""

    def parse(text: str) -> str:
        if text not in aliases:
            raise ArgumentTypeError(f"{text!r} is unknown; choose one of {', '.join(aliases)}")
        return aliases[text]

    return parse


def words(text: str) -> list[str]:
    """Words with commas between them."""
    return [word for word in text.split(",") if word]


class Words(Action):
    """A list of words, with spaces or commas between them; of `type=words, nargs="+"`."""

    def __call__(
        self,
        parser: ArgumentParser,
        args: Namespace,
        values: list[list[str]],
        option: str | None = None,
    ) -> None:
        setattr(args, self.dest, [word for part in values for word in part])


class Limits(Action):
    """A limit per metric, of `type=limits`: the flag may be repeated, the last of a metric wins."""

    def __call__(
        self,
        parser: ArgumentParser,
        args: Namespace,
        values: list[str],
        option: str | None = None,
    ) -> None:
        by_metric = {text.split("=")[0]: text for text in (*getattr(args, self.dest), *values)}
        setattr(args, self.dest, tuple(by_metric.values()))
