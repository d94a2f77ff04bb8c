"""Threads by measurement, and candidates scored by several processes as by one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, Main
from helpers import all_codes, batches, trained_like

import search
from model import SearchSpace
from search_strategy.evaluator import Evaluator
from search_strategy.workers import LocalWorkers, shares
from utils import threads
from utils.startup import wait_without_spinning

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")


@pytest.fixture
def many_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight CPUs, whatever this machine has, and no quota."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "CGROUPS", Path("/nowhere"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_usable_cpus_is_the_tightest_limit(many_cpus, monkeypatch, tmp_path: Path) -> None:
    assert threads.usable_cpus() == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5, 6, 7}, raising=False)
    assert threads.usable_cpus() == 5
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    monkeypatch.setattr(threads, "CGROUPS", tmp_path)
    assert threads.usable_cpus() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert threads.usable_cpus() == 2


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 1 << 30),
        ({"cpu.max": "max 100000"}, 1 << 30),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, 2),  # a parent's
        ({"a/b/cpu.max": "100000 100000", "a/cpu.max": "400000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),  # version 1
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 1 << 30),
    ],
)
def test_quota(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert threads.quota(tmp_path, "/a/b") == expected


@pytest.mark.parametrize(
    ("seconds", "picked"),
    [
        ({8: 1.0, 4: 1.9, 2: 3.8, 1: 7.6}, 8),  # all pay
        ({8: 1.0, 4: 1.1, 2: 1.8, 1: 3.6}, 4),
        ({8: 50.0, 4: 20.0, 2: 1.0, 1: 1.1}, 1),  # a busy machine
        ({8: 1.0, 4: 1.0, 2: 1.0, 1: 1.5}, 2),
    ],
)
def test_threads_are_those_that_pay(monkeypatch, seconds: dict[int, float], picked: int) -> None:
    clock = 0.0

    def step() -> None:
        nonlocal clock
        clock += seconds[torch.get_num_threads()]

    monkeypatch.setattr(time, "perf_counter", lambda: clock)
    try:
        assert threads.pick_threads(step, 8) == picked
    finally:
        torch.set_num_threads(1)


def test_the_users_waiting_policy_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    wait_without_spinning()
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.delenv("OMP_WAIT_POLICY")
    wait_without_spinning()
    assert "threads, GOMP_SPINCOUNT=3000, " in threads.threads_text(torch.device("cpu"))
    assert (os.environ.pop("GOMP_SPINCOUNT"), os.environ.pop("KMP_BLOCKTIME")) == ("3000", "0")


@pytest.mark.parametrize(
    "script", ["search.py", "train_supernet.py", "train_subnet.py", "evaluate_ranking.py"]
)
def test_scripts_set_the_policy_before_torch_loads(script: str) -> None:
    lines = (ROOT / script).read_text().splitlines()
    first = next(i for i, x in enumerate(lines) if "start_up()" in x)
    torches = [i for i, x in enumerate(lines) if x.startswith(("import torch", "from torch"))]
    ours = [i for i, x in enumerate(lines) if x.startswith(("from model", "from data"))]
    assert first < min(torches + ours)


def test_shares_are_runs_of_equal_work(rng: np.random.Generator) -> None:
    nets = np.unique(rng.integers(0, 3, (200, 8)), axis=0)
    for number in (1, 2, 3, 7):
        parts = shares(nets, number)
        assert np.array_equal(np.concatenate(parts), nets)
        sizes = [len(part) for part in parts]
        assert max(sizes) < 1.3 * min(sizes)
    assert list(map(len, shares(nets[:0], 3))) == [0, 0, 0]
    assert sorted(map(len, shares(nets[:2], 3))) == [0, 1, 1]


def evaluator_of(space: SearchSpace) -> Evaluator:
    calibration = [images for images, _ in batches(1, 8, 1)]
    return Evaluator(trained_like(space), calibration, batches(2, 8, 2), score="probability")


@linux
def test_scores_are_those_of_one_process(tiny: SearchSpace, rng: np.random.Generator) -> None:
    alone, spread = evaluator_of(tiny), LocalWorkers(evaluator_of(tiny), 3)
    progress: list[float] = []
    for n in (30, 4, 25):
        nets = np.unique(rng.integers(0, tiny.num_choices, (n, tiny.num_layers)), axis=0)
        progress.clear()
        scores = spread.score(nets, lambda done, top1: progress.append(done))
        assert np.array_equal(scores, alone.score(nets))
        assert sum(progress) == pytest.approx(len(nets))
    assert len(spread.connections) == 2


SEVERAL_THREADS = """
import sys
sys.path.insert(0, "tests")
import torch
from conftest import TINY
from helpers import all_codes, batches, trained_like
from model import load_space
from search_strategy.evaluator import Evaluator
from search_strategy.workers import LocalWorkers
torch.set_num_threads(2)
space = load_space(TINY, 8, 10)
calibration = [images for images, _ in batches(1, 64, 1)]
evaluator = Evaluator(trained_like(space), calibration, batches(2, 64, 2))
nets = all_codes(space)[:40]
alone = evaluator.score(nets)  # starts OpenMP's threads
assert (LocalWorkers(evaluator, 2).score(nets) == alone).all()
"""


@linux
def test_processes_of_several_threads() -> None:
    """A forked process has none of OpenMP's threads, and would wait for them for ever."""
    words = [sys.executable, "-c", SEVERAL_THREADS]
    environment = os.environ | {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "0"}
    subprocess.run(words, cwd=ROOT, env=environment, timeout=120, check=True)


@linux
def test_an_error_or_a_killed_process_is_told(tiny: SearchSpace) -> None:
    nets = all_codes(tiny)
    spread = LocalWorkers(evaluator_of(tiny), 2)
    before = set(multiprocessing.active_children())
    spread.score(nets[:20])
    (child,) = set(multiprocessing.active_children()) - before
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    with pytest.raises(ValueError, match="want of memory"):
        spread.score(nets[20:60])

    class Failing:
        def score(self, architectures: np.ndarray, on_progress=None) -> np.ndarray:
            if (architectures[-1] == nets[-1]).all():  # the last share has the last architecture
                raise MemoryError("none left")
            return np.zeros((len(architectures), 2))

    with pytest.raises(MemoryError, match="none left"):
        LocalWorkers(Failing(), 2).score(nets)


CHILD_OF_A_SLEEPER = """
import time, numpy as np, multiprocessing
from search_strategy.workers import LocalWorkers
class E:
    def score(self, a, p=None):
        return np.zeros((len(a), 2))
LocalWorkers(E(), 2).score(np.arange(8)[:, None])
print(multiprocessing.active_children()[0].pid, flush=True)
time.sleep(60)
"""


@linux
def test_processes_end_with_a_killed_parent() -> None:
    words = [sys.executable, "-c", CHILD_OF_A_SLEEPER]
    parent = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE)
    status = Path(f"/proc/{int(parent.stdout.readline())}/stat")
    assert status.exists()
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not status.exists() or "Z" in status.read_text():
            return
        time.sleep(0.1)
    raise AssertionError("the child lives on")


@linux
def test_a_search_gives_the_same_with_more_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main: Main
) -> None:
    flags = ("--search-space", TINY, "--epochs", 1, "--population", 12, "--parent-num", 4)
    flags += ("--generation-num", 2)
    for cpus, number in ((1, "auto"), (2, 1)):  # auto becomes a number in the config
        monkeypatch.setenv("OMP_NUM_THREADS", str(cpus))
        main(search, *flags, "--threads", number, "--title", f"cpus{cpus}")
    runs = [tmp_path / "runs" / f"cpus{cpus}" for cpus in (1, 2)]
    for name in ("history.csv", "random_control.csv", "best_architecture.yaml"):
        first, second = (run.joinpath(name).read_text() for run in runs)
        assert first == second.replace("cpus2", "cpus1"), name
    assert "\nthreads: 1\n" in (runs[0] / "config.yaml").read_text()
    error = main(search, "--threads", "none", ok=False)
    assert "neither an integer from 1 to 1024 nor auto" in error
