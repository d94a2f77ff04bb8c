"""Progress of long work: a bar on a terminal, now and then a plain line elsewhere.

A log of a job or of CI would hold thousands of redrawn bars; there a line is printed every half
minute, and where something is worth a line: at the end of an epoch or a round.
"""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

PLAIN_INTERVAL = 30.0  # seconds between two lines
PLAIN_FORMAT = (
    "{desc}: {n_fmt} of {total_fmt}{unit}s, {rate_fmt}, {elapsed} gone, {remaining} left{postfix}"
)


class PlainLines(tqdm):
    """tqdm that writes whole lines, each state once, instead of overwriting its line."""

    shown: tuple[float, str] | None = None

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        state = (self.n, self.postfix or "")
        if state != self.shown:
            self.shown = state
            self.fp.write(f"{self}\n")
            self.fp.flush()


def progress_bar(total: int, name: str, unit: str, done: int = 0, quiet: bool = False) -> tqdm:
    """A bar over `total` units, `done` of them before it starts, with rate and time left.

    `quiet` gives one that shows nothing. It writes to standard error.
    """
    where: dict[str, Any] = {"file": sys.stderr, "total": total, "initial": done, "desc": name}
    if quiet:
        return tqdm(**where, disable=True)
    if sys.stderr.isatty():
        return tqdm(**where, unit=unit, dynamic_ncols=True, mininterval=0.5)
    plain = {"mininterval": PLAIN_INTERVAL, "bar_format": PLAIN_FORMAT, "leave": True}
    return PlainLines(**where, unit=f" {unit}", **plain)
