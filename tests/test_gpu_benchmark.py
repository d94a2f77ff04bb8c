"""`python -m benchmarks.gpu` at tiny sizes on the CPU, and what it does when something fails."""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from conftest import TINY as SPACE
from conftest import Main
from torch.autograd import DeviceType

from benchmarks import _measure, gpu
from benchmarks._measure import Work, device_work, measure, time_limit
from benchmarks._worker import Ended, Worker
from model import small_maps

CPU = torch.device("cpu")
Benchmark = Callable[..., dict[str, gpu.Cells]]
SEARCH = "default search on digits, end to end"
PER_UNIT = {" step, ": 2, "evaluator": 1, "in-memory": 256}  # images or networks of what ms is of


def read(path: Path) -> dict[str, gpu.Cells]:
    """The rows of the file's only table, by name."""
    lines = [x for x in path.read_text(encoding="utf-8").splitlines() if x.startswith("|")]
    cells = [[cell.strip() for cell in x.strip("|").split("|")] for x in lines]
    assert tuple(cells[0]) == gpu.COLUMNS and set("".join(cells[1])) == {"-"}
    return {row[0]: dict(zip(gpu.COLUMNS, row, strict=True)) for row in cells[2:]}


def value(cell: str) -> float:
    """The number that a cell begins with."""
    found = re.match(r"[\d,.]+", cell)
    assert found, cell
    return float(found[0].replace(",", ""))


class Inline:
    """A worker that is this process, so that a test can patch what it runs."""

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *error: object) -> None: ...

    def call(self, work: Callable, *args: object, limit_s: float) -> object:
        return work(*args)


@pytest.fixture
def benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    """Runs the command in this process, and reads its table."""
    monkeypatch.setattr(gpu, "Worker", Inline)

    def run(*flags: object) -> dict[str, gpu.Cells]:
        words = ["gpu", "--device", "cpu", "--tiny", "--space", SPACE, *flags]
        monkeypatch.setattr(sys, "argv", [*map(str, words), "--save", str(tmp_path / "table.md")])
        gpu.main()
        return read(tmp_path / "table.md")

    return run


def test_all_rows_run_and_are_plausible(
    benchmark: Benchmark,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(small_maps, "LARGEST_MAP", 0)  # the operators that a GPU would run
    rows = benchmark()
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.startswith(text), "what is printed is what is in the file"
    assert f"torch {torch.__version__}" in text and "TF32: convolutions on" in text
    steps = [name for name in rows if " step, " in name]
    for kind in ("float32", "bf16", "float32, compiled", "bf16, compiled"):
        for net in ("supernet", "subnet"):
            assert f"{net} step, {kind}, 8 px, batch 2" in steps
    assert len(rows) == len(steps) + 1 + 2 + 2 == 13
    for name, row in rows.items():
        assert sys.platform != "linux" or value(row["peak MiB"]) > 50, row
        if name == SEARCH:
            continue
        assert "error" not in row["note"] and value(row["launches"]) > 5, row
        assert 1 <= value(row["GPU busy"]) <= 100, row
        per_unit = next(number for part, number in PER_UNIT.items() if part in name)
        rate = 1e3 * per_unit / value(row["ms"])
        assert value(row["per second"]) == pytest.approx(rate, rel=0.1), row
    phases = [value(part.rsplit(" ", 2)[1]) for part in rows[SEARCH]["note"].split(", ")]
    assert len(phases) == 6 and sum(phases) == pytest.approx(value(rows[SEARCH]["ms"]) / 1e3, abs=1)
    assert value(rows[steps[0]]["launches"]) < value(rows[steps[2]]["launches"]), "casts of bf16"


def test_failing_rows_do_not_lose_the_others(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def no_memory(*_: object) -> Work:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")

    def broken(*_: object) -> Work:
        raise RuntimeError("no | such\nkernel " + 300 * "x")

    def step(self: gpu.Bench, net: str, *_: object) -> Work:
        images = torch.zeros(2, 3, 8, 8)
        return broken() if net == "subnet" else Work(run=images.sum, count=2)

    monkeypatch.setattr(gpu.Bench, "step", step)
    monkeypatch.setattr(gpu.Bench, "scoring", no_memory)
    monkeypatch.setattr(gpu.Bench, "pipeline", broken)
    monkeypatch.setattr(gpu, "run_search", lambda flags: broken())
    monkeypatch.setattr(torch._dynamo, "reset", broken)
    rows = benchmark()
    message = "error: RuntimeError: no / such kernel xx"
    assert len(rows) == 13
    for name, row in rows.items():
        if name.startswith("supernet"):
            assert value(row["per second"]) > 0 and row["note"] == ""
        elif name.startswith("evaluator"):
            assert row["note"] == "error: the device is out of memory (2.00 GiB were asked for)"
        else:
            assert row["note"].startswith(message) and len(row["note"]) < 220 and not row["ms"]
    assert "Traceback" in capsys.readouterr().err


def one_row(name: str) -> gpu.Cells:
    if name == "dies":
        os._exit(3)
    return {"ms": "1"}


def test_rows_go_on_in_a_new_process_where_one_died(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("first", "dies", "second")
    rows = [gpu.Row(name=name, run=partial(one_row, name)) for name in names]
    monkeypatch.setattr(gpu.Bench, "rows", lambda self: rows)
    monkeypatch.setattr(gpu, "Worker", Worker)
    found = benchmark()
    assert [found[name]["ms"] for name in names] == ["1", "", "1"]
    assert found["dies"]["note"] == "error: the process ended with exit code 3"


def test_a_worker_that_breaks_or_hangs_is_replaced() -> None:
    with Worker() as worker:
        first = worker.call(os.getpid, limit_s=60)
        with pytest.raises(Ended, match="no answer within 0 s, the process was killed"):
            worker.call(time.sleep, 60, limit_s=0.1)
        with pytest.raises(Ended, match="exit code 1"):
            worker.call(math.sqrt, -1, limit_s=60)
        assert worker.call(os.getpid, limit_s=60) not in (first, os.getpid())


def test_a_broken_device_is_found_between_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    _measure.release(CPU)
    monkeypatch.setattr(torch, "zeros", MagicMock(side_effect=RuntimeError("illegal address")))
    with pytest.raises(RuntimeError, match="illegal address"):
        _measure.release(CPU)


def test_rows_share_the_time(benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: dict[str, float] = {}

    def run_row(row: gpu.Row, limit_s: float) -> gpu.Cells:
        limits[row.name] = limit_s
        return {"ms": "1"}

    monkeypatch.setattr(gpu, "run_row", run_row)
    monkeypatch.setattr(gpu, "release", lambda device: None)  # nothing is held
    rows = benchmark("--minutes", 100)
    assert [row["ms"] for row in rows.values()] == ["1"] * 13
    assert max(limits.values()) == limits[SEARCH] == gpu.USABLE * 6000 / 2
    rows = benchmark("--minutes", 1e-9)
    assert {row["note"] for row in rows.values()} == {"not run: out of time"}


def test_killed_run_leaves_what_it_has_measured(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measured(self: gpu.Bench, make: Callable) -> gpu.Cells:
        if "subnet" in make.args and "compiled=True" in str(make.args):
            raise KeyboardInterrupt
        return {"ms": "1"}

    monkeypatch.setattr(gpu.Bench, "measured", measured)
    monkeypatch.setattr(gpu.Bench, "search", lambda self: {"ms": "1"})
    monkeypatch.setattr(gpu, "release", lambda device: None)  # nothing is held
    with pytest.raises(SystemExit, match="130"):
        benchmark()
    notes = [row["note"] for row in read(tmp_path / "table.md").values()]
    assert notes == [""] * 10 + ["not run"] * 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--device", "cuda"), "--device cuda: PyTorch sees no GPU here"),
        (("--device", "cpu"), "--device cpu needs --tiny"),
        (("--device", "cpu", "--tiny", "--only", "nothing"), "no row's name contains it"),
        (("--device", "cpu", "--tiny", "--space", "nowhere"), "nowhere"),
        (("--device", "cpu", "--tiny", "--save", "/no/such/folder/x.md"), "cannot write"),
    ],
)
def test_user_errors_are_one_line(
    flags: tuple[str, ...], message: str, main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "Worker", Inline)
    assert message in main(gpu, *flags, ok=False)


def test_work_of_a_gpu_is_the_union_of_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The part that has no GPU here, on events as its profiler gives them."""

    def event(kind: str, start: int, end: int, annotation: bool = False) -> SimpleNamespace:
        span = SimpleNamespace(start=start, end=end)
        kind = getattr(DeviceType, kind)
        return SimpleNamespace(device_type=kind, time_range=span, is_user_annotation=annotation)

    events = [
        event("CUDA", 500_000, 600_000),
        event("CUDA", 0, 200_000),
        event("CUDA", 100_000, 300_000),  # of another stream
        event("CUDA", 120_000, 130_000),
        event("CUDA", 0, 900_000, annotation=True),
        event("CPU", 0, 800_000),
    ]
    profile = MagicMock()
    profile.return_value.__enter__.return_value.events.return_value = events
    monkeypatch.setattr(_measure, "profile", profile)
    busy_s, launches = device_work(lambda: None, torch.device("cuda"))
    profile.assert_called_once_with(activities=[torch.profiler.ProfilerActivity.CUDA])
    assert busy_s == pytest.approx(0.4) and launches == 4


def test_time_is_measured_where_the_profiler_fails(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(activities: list) -> None:
        raise RuntimeError("CUPTI_ERROR_INSUFFICIENT_PRIVILEGES")

    monkeypatch.setattr(_measure, "profile", fails)
    (row,) = benchmark("--only", "pipeline, augmented").values()
    assert value(row["ms"]) > 0 and row["GPU busy"] == row["launches"] == ""
    assert row["note"] == "the profiler saw nothing"


def test_measured_time_is_that_of_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def run() -> None:
        clock[0] += 0.02

    work = Work(run=run, units=4, count=8, things="networks")
    _, found = measure(lambda: work, CPU, window_s=0.05, enough_s=0.0)
    assert (found.unit_s, found.rate) == pytest.approx((0.005, 400))
    assert found.busy is None and found.launches is None, "no operators"
    assert clock[0] / 0.02 > 3 + 3


def test_time_limit_restores_what_was_there() -> None:
    with pytest.raises(_measure.OutOfTime), time_limit(0.05):
        signal.pause()
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
