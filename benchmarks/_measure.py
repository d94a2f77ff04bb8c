"""One piece of work: its time, rate, share of a busy GPU, kernel launches and peak memory.

Also `search.py` as a whole, with the seconds of its phases.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import runpy
import signal
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch._dynamo  # at once: optimisers import it, and OutOfTime would leave half a module
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks._common import ROOT, peak_mib, reset_peak, run_python, synchronize
from utils import report
from utils.device import tune_malloc
from utils.errors import one_line, out_of_memory

Cells = dict[str, str]  # of a row of the table, by column
WINDOWS = (3, 7)  # fewest and most; between them, until the work has taken `enough_s`


@dataclass(frozen=True, kw_only=True)
class Work:
    """Work to be measured.

    Attributes:
        run: does all of it once.
        units: the number of steps, batches or networks in one `run`, of which time is told.
        count: the number of images or networks in one `run`, of which the rate is told.
    """

    run: Callable[[], object]
    units: int = 1
    count: int
    things: str = "images"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Time, rate and memory of one unit of a work.

    Attributes:
        first_s: seconds of the first run of all, with compilation and loading of kernels.
        rate: images or networks per second.
        busy: share of the time in which the GPU has work; None if the profiler saw nothing.
        launches: kernels, copies and fills per unit; None likewise.
        peak_mib: None where it is unknown.
    """

    first_s: float
    unit_s: float
    rate: float
    busy: float | None
    launches: float | None
    peak_mib: float | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table; `limit` is the share of all time that it may take."""

    name: str
    run: Callable[[], Cells]
    limit: float = 0.25


class OutOfTime(BaseException):
    """The time is over. Not an Exception, which a library in between might handle."""


@contextlib.contextmanager
def time_limit(limit_s: float) -> Iterator[None]:
    """Raise OutOfTime inside after so long, where the system has timers."""
    if not hasattr(signal, "setitimer"):  # Windows
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def device_work(run: Callable[[], object], device: torch.device) -> tuple[float, int]:
    """Return seconds in which the GPU has work in one `run()`, and kernels, copies and fills.

    On a CPU, where this code is tested: seconds within operators, and how many they are.
    """
    on_gpu = device.type == "cuda"
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
    with profile(activities=[activity]) as profiled:
        run()
        synchronize()
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiled.events()
        if event.device_type == wanted and not getattr(event, "is_user_annotation", False)
    )
    busy_us, until = 0.0, -math.inf
    for start, end in spans:  # their union: streams overlap, and operators call operators
        busy_us += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy_us / 1e6, len(spans)


def run_seconds(run: Callable[[], object], repeats: int = 1) -> float:
    """Time one of `repeats` runs in a row, with what they leave in the GPU's queue."""
    synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    synchronize()
    return (time.perf_counter() - start) / repeats


def measure(
    make: Callable[[], Work], device: torch.device, window_s: float, enough_s: float
) -> tuple[Work, Measurement]:
    """Prepare a work, warm it up and measure it.

    The time is the median over windows of as many runs as take `window_s`, with a synchronisation
    before and after each window: within it, a GPU's queue stays filled as it does in training.
    """
    reset_peak(device)
    work = make()
    first_s = run_seconds(work.run)
    work.run()
    repeats = max(1, math.ceil(window_s / run_seconds(work.run)))
    times: list[float] = []
    start, (fewest, most) = time.perf_counter(), WINDOWS
    while len(times) < fewest or (len(times) < most and time.perf_counter() - start < enough_s):
        times.append(run_seconds(work.run, repeats))
    run_s, peak = statistics.median(times), peak_mib(device)  # without the profiler's memory
    try:
        busy_s, launches = device_work(work.run, device)
    except RuntimeError:  # no right to the card's counters, as in some containers
        traceback.print_exc()
        busy_s, launches = 0.0, 0
    return work, Measurement(
        first_s=first_s,
        unit_s=run_s / work.units,
        rate=work.count / run_s,
        busy=min(1.0, busy_s / run_s) if launches else None,
        launches=launches / work.units if launches else None,
        peak_mib=peak,
    )


def release(device: torch.device) -> None:
    """Free what a work has left, also where it failed. Raises where the device is broken."""
    for free in (torch._dynamo.reset, gc.collect, torch.cuda.empty_cache):
        with contextlib.suppress(Exception):  # a broken compiler or device: the lines below tell
            free()
    synchronize()
    torch.zeros(1, device=device).item()


def run_row(row: Row, limit_s: float) -> Cells:
    """Return the cells of a row; where it fails or takes too long, a note."""
    tune_malloc()
    start = time.perf_counter()
    try:
        with time_limit(limit_s):
            return row.run()
    except OutOfTime:
        return {"note": f"stopped after {time.perf_counter() - start:.0f} s: out of time"}
    except Exception as error:
        what = out_of_memory(error)
        if what is None:
            traceback.print_exc()
        return {"note": "error: " + one_line(what or f"{type(error).__name__}: {error}")[:200]}


def run_search(flags: list[str]) -> dict:
    """Run a search with these flags in a process of its own; return what `child` prints.

    Raises:
        RuntimeError: the search fails; with the last line that it said.
    """
    out = run_python("-c", "from benchmarks._measure import child; child()", *flags)[2]
    return json.loads(out.splitlines()[-1])


def child() -> None:
    """Run `search.py` with this process's flags; then print its phases and memory as JSON."""
    made: list[report.Phases] = []

    class Kept(report.Phases):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    report.Phases = Kept  # type: ignore[misc]
    runpy.run_path(str(ROOT / "search.py"), run_name="__main__")
    device = torch.device("cuda" if torch.cuda.is_initialized() else "cpu")
    print(json.dumps({"phases": made[0].seconds, "peak_mib": peak_mib(device)}))
