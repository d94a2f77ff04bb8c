"""Parts of several benchmarks: sides in turn, processes, medians, peak memory, the hardware."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from utils.threads import processor

ROOT = Path(__file__).resolve().parent.parent
BASE = "68b736b"  # the last commit without model/small_maps.py


def device(name: str) -> torch.device:
    """Parse a --device flag. Raises ArgumentTypeError where PyTorch has none of that name."""
    if name not in ("cpu", "cuda"):
        raise ArgumentTypeError(f"{name!r} is neither cpu nor cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ArgumentTypeError("PyTorch sees no GPU here; take cpu")
    return torch.device(name)


def interleaved(
    sides: dict[str, Callable[[], object]], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Time each side, `rounds` times in turn after `warm_up` rounds that do not count.

    What else the machine does then slows all sides alike, and their ratio keeps its meaning. With
    one thread and no GPU it is processor time that is measured, for the same reason.
    """
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    clock = time.process_time if alone else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(warm_up + rounds):
        for name, run in sides.items():
            synchronize()
            start = clock()
            run()
            synchronize()
            if i >= warm_up:
                seconds[name].append(clock() - start)
    return seconds


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratio(seconds: dict[str, list[float]], side: str, reference: str) -> float:
    """Return the median over rounds of time(side) / time(reference)."""
    pairs = zip(seconds[side], seconds[reference], strict=True)
    return statistics.median(a / b for a, b in pairs)


def print_ratios(title: str, seconds: dict[str, list[float]], reference: str) -> None:
    """Print the median time of each side, and how many times the reference's speed it has."""
    print(f"\n{title}")
    width = max(map(len, seconds)) + 2
    for name, times in seconds.items():
        speed = 1 / ratio(seconds, name, reference)
        print(f"  {name:<{width}}{1e3 * statistics.median(times):>10.1f} ms {speed:>7.2f}x")


def resident(key: str) -> int:
    """Read VmRSS or VmHWM (its peak) of this process, in kB. Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(key)))


def reset_peak(device: torch.device) -> None:
    """Let the next `peak_mib` tell of what comes now; where a CPU's peak stays, do nothing."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM


def peak_mib(device: torch.device) -> float | None:
    """Return the most memory that tensors had on a GPU, or this process; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with contextlib.suppress(OSError, StopIteration):
        return resident("VmHWM") / 2**10
    return None


def driver() -> str:
    """Return the version of NVIDIA's driver, or "unknown"."""
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return (done.stdout.split() or ["unknown"])[0]


def hardware() -> str:
    """Describe in one line processor, threads, GPU and its driver, versions."""
    parts = [processor(), f"{torch.get_num_threads()} threads", f"torch {torch.__version__}"]
    if torch.cuda.is_available():
        parts += [f"CUDA {torch.version.cuda}", torch.cuda.get_device_name(), f"driver {driver()}"]
    return ", ".join(parts)


def run_python(*words: str) -> tuple[float, float, str]:
    """Run Python in an empty folder; return wall and processor seconds, and what it printed.

    Raises:
        RuntimeError: it failed; with the last line that it said.
    """
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory() as folder:
        before, start = os.times(), time.perf_counter()
        done = subprocess.run(
            [sys.executable, *words],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        wall, after = time.perf_counter() - start, os.times()
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise RuntimeError(f"python {' '.join(words)[:80]} failed: {last[0]}")
    cpu = after.children_user + after.children_system
    return wall, cpu - before.children_user - before.children_system, done.stdout


@contextlib.contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """Yield a folder with the project as it was at a commit, removed at the end.

    Raises:
        SystemExit: this is no clone, or has no such commit.
    """
    git = ["git", "-C", str(ROOT)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "checkout"
        done = subprocess.run(
            [*git, "worktree", "add", "--detach", str(root), commit], capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"error: cannot check out {commit}: {done.stderr.strip()}")
        try:
            yield root
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(root)], capture_output=True)
