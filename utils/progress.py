"""Progress bars (tqdm) everywhere: on a terminal as they are, elsewhere as plain lines, or none.

The log of a batch job or of CI would hold thousands of redrawn bars. There a bar is a line every
half minute, and one where something is worth a line: at the end of an epoch or of a round.
"""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

PLAIN: dict[str, Any] = {
    "mininterval": 30.0,  # seconds between two lines
    "maxinterval": 60.0,
    "dynamic_ncols": False,
    "bar_format": (
        "{desc}: {n_fmt} of {total_fmt} {unit}s, {rate_noinv_fmt}, {elapsed} gone, {remaining} left"
        "{postfix}"
    ),
}
_tqdm = {name: getattr(tqdm, name) for name in ("__init__", "display", "clear")}


def _show_line(bar: tqdm, msg: str | None = None, pos: int | None = None) -> None:
    """A whole line, for each state once, in place of a redrawn one."""
    state = (bar.n, bar.postfix or "")
    if state != getattr(bar, "shown", None):
        bar.shown = state
        bar.fp.write(f"{bar}\n")
        bar.fp.flush()


def set_up_bars(quiet: bool) -> None:
    """How all bars made from here on are shown: not at all if `quiet`, else as standard error is.

    tqdm is changed for the whole process, so that no bar has to be told.
    """
    plain = not sys.stderr.isatty()

    def init(bar: tqdm, *args: Any, **options: Any) -> None:
        if quiet:
            options["disable"] = True
        elif plain:
            options |= PLAIN
        _tqdm["__init__"](bar, *args, **options)

    tqdm.__init__ = init  # type: ignore[method-assign]
    tqdm.display = _show_line if plain else _tqdm["display"]  # type: ignore[method-assign]
    tqdm.clear = (lambda bar, *_, **__: None) if plain else _tqdm["clear"]  # type: ignore[method-assign]
