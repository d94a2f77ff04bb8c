"""The summary at the end of a run, as text."""

from __future__ import annotations

import textwrap

WIDTH = 96  # columns


def summary_table(title: str, rows: dict[str, str]) -> str:
    """A two-column table; long values go on in the next line."""
    indent = max(map(len, rows)) + 3
    lines = [title, "─" * WIDTH]
    for name, value in rows.items():
        wrapped = textwrap.wrap(
            value, WIDTH - indent, break_long_words=False, break_on_hyphens=False
        ) or [""]
        lines += [f"{name:<{indent}}{wrapped[0]}"]
        lines += [" " * indent + line for line in wrapped[1:]]
    return "\n".join([*lines, "─" * WIDTH])


def clock(seconds: float) -> str:
    """Seconds for people: 7.3 s, 2 min 05 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
