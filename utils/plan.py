"""What a run will take, measured by doing a little of it: for `--dry-run`."""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from utils.progress import set_up_bars
from utils.report import clock, summary_table

PROBE_STEPS = 6  # training steps that are timed, after a first one that warms up
PROBE_CANDIDATES = 6


def check_plan(args: Namespace) -> None:
    """A dry run reads no cache and writes none. Raises ValueError where it is to resume."""
    if args.dry_run and args.resume:
        raise ValueError("--dry-run plans a new run; leave --resume out")
    if args.dry_run:
        args.cache_dir = None


def now(device: torch.device) -> float:
    """Seconds, when the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class FirstBatches:
    """The first `n` batches of a loader, which remembers when each was asked for.

    Everything else is the loader's own.
    """

    def __init__(self, loader: Any, n: int) -> None:
        self.loader = loader
        self.n = min(n, len(loader))
        self.times: list[float] = []

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[Any]:
        for batch in itertools.islice(self.loader, self.n):
            self.times.append(now(self.loader.device))
            yield batch
        self.times.append(now(self.loader.device))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    @property
    def seconds_per_step(self) -> float:
        """The median, without the first step if there are more."""
        steps = [b - a for a, b in itertools.pairwise(self.times)]
        return statistics.median(steps[1:] or steps)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call."""
    start = now(device)
    work()
    return now(device) - start


def peak_memory(device: torch.device) -> int:
    """Bytes that this process has held at most: on the GPU, else in all."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def about(spent: float) -> str:
    """A duration for people, without false precision: about 3 min, about 5.2 h."""
    if spent < 90:
        return f"about {clock(round(spent)) if spent >= 10 else clock(spent)}"
    if spent < 5400:
        return f"about {spent / 60:.0f} min"
    return f"about {spent / 3600:.1f} h" if spent < 48 * 3600 else f"about {spent / 86400:.1f} days"


def in_bytes(size: float) -> str:
    """A size for people: 12.3 MB."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1000
    raise AssertionError  # the loop returns


def plan_training(
    train: Callable[[FirstBatches, Path], None], loader: Any, epochs: int
) -> dict[str, str]:
    """Rows of a plan from some training steps, whose files go to a folder that is removed.

    Args:
        train: trains on the batches and leaves `supernet.pt` in the folder.
    """
    set_up_bars(quiet=True)
    batches = FirstBatches(loader, PROBE_STEPS + 1)
    with tempfile.TemporaryDirectory() as folder:
        train(batches, Path(folder))
        size = (Path(folder) / "supernet.pt").stat().st_size
    steps, spent = epochs * len(loader), batches.seconds_per_step
    return {
        "training": f"{steps:,} steps of {loader.batch_size} images ({epochs} epochs of "
        f"{loader.num_images:,} images): {about(steps * spent)} at {spent:.3g} s per step",
        "checkpoint": f"about {in_bytes(size)}",
    }


def plan_scoring(
    score: Callable[[], object], probed: int, number: int, device: torch.device
) -> dict[str, str]:
    """The row of a plan for `number` candidates, from scoring `probed` of them.

    Candidates that have much in common share work, so a search takes no longer than this.
    """
    spent = seconds(score, device) / probed
    return {
        "candidates": f"{number:,} to score: at most {about(number * spent)} at {spent:.3g} s each"
    }


def plan_text(title: str, rows: dict[str, str]) -> str:
    return summary_table(f"\nplan: {title}", rows) + "\nnothing was trained and no run was written"
