"""Tables, times and commands for people; the plan of a --dry-run; TensorBoard's hparams."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

WIDTH = 80  # columns of a narrow terminal
TRAINING_FILES = "config.yaml, environment.yaml, log.txt, splits.npz, supernet.pt, tensorboard/"


def summary_table(title: str, rows: dict[str, str]) -> str:
    """Format a two-column table; long values go on in the next line."""
    indent = max(map(len, rows)) + 3
    lines = [title, "─" * WIDTH]
    for name, value in rows.items():
        first, *more = textwrap.wrap(
            value, WIDTH - indent, break_long_words=False, break_on_hyphens=False
        ) or [""]
        lines += [f"{name:<{indent}}{first}", *(" " * indent + line for line in more)]
    return "\n".join([*lines, "─" * WIDTH])


def plan_text(title: str, rows: dict[str, str]) -> str:
    """Format the plan that --dry-run prints in place of a run."""
    return summary_table(f"\nplan: {title}", rows) + "\nnothing was trained and no run was written"


def command_line(*words: str) -> str:
    """Format a command of this toolkit as one types it."""
    return shlex.join(["python", *words])


def write_hparams(
    writer: SummaryWriter, title: str, flags: Mapping[str, object], finals: Mapping[str, float]
) -> None:
    """Write TensorBoard's hparams of a run, called by its title, and its final numbers."""
    from tensorboard.plugins.hparams import summary_v2 as hparams

    plain = {k: v for k, v in flags.items() if isinstance(v, (str, int, float, bool))}
    columns = [hparams.HParam(name) for name in plain], [hparams.Metric(tag) for tag in finals]
    file = writer._get_file_writer()  # add_hparams would start a run of its own
    file.add_summary(hparams.hparams_config_pb(*columns))
    file.add_summary(hparams.hparams_pb(plain, trial_id=title))
    for tag, value in finals.items():
        writer.add_scalar(tag, value)


class Phases:
    """Seconds per named phase, in order of first use."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def clock(seconds: float) -> str:
    """Format seconds for people: 7.3 s, 2 min 05 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def terminal_width() -> int | None:
    """Return the columns of the terminal that standard output is; None for files and pipes."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def text_table(rows: Sequence[dict[str, str]], expendable: Sequence[str] = ()) -> str:
    """Align columns under their names, numbers to the right; empty columns are left out.

    A row may lack columns. On a terminal, leave out the first of the `expendable` columns until
    the table fits.
    """
    columns = {}
    for name in dict.fromkeys(n for row in rows for n in row):
        values = [row.get(name, "") for row in rows]
        if any(values):
            align = ">" if all(v[:1].isdigit() or v[:1] in "-" for v in values) else "<"
            width = max(map(len, (name, *values)))
            columns[name] = [f"{v:{align}{width}}" for v in (name, *values)]
    widest = terminal_width()
    for unneeded in (*expendable, ""):  # "": once more after the last
        lines = ["  ".join(line).rstrip() for line in zip(*columns.values(), strict=True)]
        length = max(map(len, lines))
        if widest is None or length <= widest:
            break
        columns.pop(unneeded, None)
    return "\n".join([lines[0], "─" * length, *lines[1:]])
