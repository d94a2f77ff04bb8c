"""The summary at the end of a run, as text."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

WIDTH = 80  # columns of a narrow terminal


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


def command_line(*words: str) -> str:
    """A command of this toolkit as one types it."""
    return shlex.join(["python", *words])


def write_hparams(
    writer: SummaryWriter, title: str, flags: Mapping[str, object], finals: Mapping[str, float]
) -> None:
    """Write TensorBoard's hparams of a run, called by its title, and its final numbers."""
    from tensorboard.plugins.hparams.summary_v2 import (
        HParam,
        Metric,
        hparams_config_pb,
        hparams_pb,
    )

    plain = {k: v for k, v in flags.items() if isinstance(v, (str, int, float, bool))}
    columns = [HParam(name) for name in plain], [Metric(tag) for tag in finals]
    file = writer._get_file_writer()
    file.add_summary(hparams_config_pb(*columns))
    file.add_summary(hparams_pb(plain, trial_id=title))
    for tag, value in finals.items():
        writer.add_scalar(tag, value)


def clock(seconds: float) -> str:
    """Seconds for people: 7.3 s, 2 min 05 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def terminal_width() -> int | None:
    """Columns of the terminal that standard output is; None for files and pipes."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def without_columns(
    rows: Sequence[dict[str, str]], expendable: Sequence[str], width: int | None
) -> list[dict[str, str]]:
    """Leave out the first of the `expendable` columns until the table fits into `width`."""
    fitted = [dict(row) for row in rows]
    for name in expendable:
        if width is None or len(text_table(fitted).splitlines()[1]) <= width:
            break
        for row in fitted:
            row.pop(name, None)
    return fitted


def text_table(rows: Sequence[dict[str, str]]) -> str:
    """Aligned columns under their names; numbers to the right. A column that is empty is left out.

    Every row may lack columns.
    """
    names = [
        n for n in dict.fromkeys(n for row in rows for n in row) if any(r.get(n) for r in rows)
    ]
    cells = {name: [row.get(name, "") for row in rows] for name in names}
    columns = []
    for name, values in cells.items():
        width = max(map(len, (name, *values)))
        to_right = all(v[:1].isdigit() or v[:1] in "-" for v in values)
        columns.append([f"{v:>{width}}" if to_right else f"{v:<{width}}" for v in (name, *values)])
    lines = ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]
    return "\n".join([lines[0], "─" * max(map(len, lines)), *lines[1:]])
