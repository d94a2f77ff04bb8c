"""What the benchmarks share: sides measured in turn, medians, a table, the hardware."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch


def interleaved(
    sides: dict[str, Callable[[], object]], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each side, `rounds` times in turn after `warm_up` rounds that do not count.

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
    """Median over rounds of time(side) / time(reference), round by round."""
    pairs = zip(seconds[side], seconds[reference], strict=True)
    return statistics.median(a / b for a, b in pairs)


def print_ratios(title: str, seconds: dict[str, list[float]], reference: str) -> None:
    """Median time of each side, and how many times the reference's speed it has."""
    print(f"\n{title}")
    width = max(map(len, seconds)) + 2
    for name, times in seconds.items():
        speed = 1 / ratio(seconds, name, reference)
        print(f"  {name:<{width}}{1e3 * statistics.median(times):>10.1f} ms {speed:>7.2f}x")


def hardware() -> str:
    """One line: processor, threads, GPU, versions."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        name = lines[0].split(":")[1].strip() if lines else name
    parts = [name, f"{torch.get_num_threads()} threads", f"torch {torch.__version__}"]
    if torch.cuda.is_available():
        parts.insert(2, torch.cuda.get_device_name())
    return ", ".join(parts)
