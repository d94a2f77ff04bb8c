"""Progress bars (tqdm): on a terminal, and nowhere else.

The log of a batch job or of CI would hold thousands of redrawn bars; there the log has a line per
epoch and per round.
"""

from __future__ import annotations

from tqdm import tqdm

_disable: bool | None = None  # None: where standard error is no terminal


def set_up_bars(quiet: bool) -> None:
    """Show no bars made from here on if `quiet`."""
    global _disable
    _disable = True if quiet else None


def progress_bar(total: int, name: str, unit: str, initial: int = 0) -> tqdm:
    """Make a bar over `total` units of work, of which `initial` are done."""
    return tqdm(
        total=total,
        initial=initial,
        desc=name,
        unit=unit,
        dynamic_ncols=True,
        mininterval=0.5,
        disable=_disable,
    )
