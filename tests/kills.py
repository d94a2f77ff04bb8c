"""Killing long jobs at random moments and going on: the result must be that of one piece.

The suite kills some (test_kills.py); `python tests/kills.py --kills 20 --seed 1` more. Half of the
kills come at a random time of the job, half at the first write after one, while a file is half
there.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from processes import Running, same_state, start

TINY = Path(__file__).resolve().parent / "tiny.yaml"
SMALL = ("--search-space", TINY, "--device", "cpu", "--epochs", 3, "--lr", 0.01, "--title", "t")
POLL = 0.0003  # s
SHARE = 0.7  # of a job's time; later moments come in its continuations, and end few jobs unkilled


@dataclass(frozen=True)
class Job:
    """A long command.

    Attributes:
        script: its name without .py.
        flags: of the start; a continuation is `--title t --resume`.
        states: checkpoints that must hold the same.
        files: that must be the same, byte for byte.
    """

    script: str
    flags: tuple
    states: tuple[str, ...] = ("supernet.pt",)
    files: tuple[str, ...] = ()


ARCHITECTURE = {
    "search_space": str(TINY),
    "input_size": 8,
    "num_classes": 10,
    "choices": ["k3_e3", "skip", "k3_e6", "k5_e3"],
}
SEARCHED = ("history.csv", "random_control.csv", "best_architecture.yaml")
JOBS = {
    "train_supernet": Job("train_supernet", (*SMALL, "--sample-strategy", "fair")),
    "random": Job(
        "search",
        (*SMALL, "--search-strategy", "random", "--random-iteration", 30),
        files=("history.csv", "best_architecture.yaml"),
    ),
    "evolution": Job(
        "search",
        (*SMALL, "--generation-num", 4, "--population", 8, "--parent-num", 3),
        files=SEARCHED,
    ),
    "pareto": Job(
        "search",
        (*SMALL, "--search-strategy", "pareto", "--generation-num", 3, "--population", 8),
        files=("history.csv",),
    ),
    "differentiable": Job(
        "search",
        (*SMALL, "--search-strategy", "differentiable", "--a-warmup-epochs", 1),
        files=SEARCHED,
    ),
    "train_subnet": Job(
        "train_subnet",
        ("--arch", "../architecture.yaml", *SMALL[2:], "--mixup", 0.2, "--ema-decay", 0.9),
        ("last.pt", "best.pt"),
        ("weights.safetensors",),
    ),
}


def begin(job: Job, folder: Path) -> Running:
    """Start the job in a folder, or go on with it where it is there to go on with."""
    if (folder / "runs" / "t" / "config.yaml").exists():
        return start(job.script, "--title", "t", "--resume", folder=folder)
    return start(job.script, *job.flags, folder=folder)


def kill_once(job: Job, folder: Path, seconds: float, in_a_write: bool) -> bool:
    """Begin, and kill after so many seconds or in the write that follows; False: it had ended."""
    running = begin(job, folder)
    end = time.monotonic() + seconds
    while time.monotonic() < end and running.process.is_alive():
        time.sleep(POLL)
    if in_a_write:
        run = folder / "runs" / "t"
        while running.process.is_alive() and not next(run.glob(".tmp-*"), None):
            time.sleep(POLL)
    running.process.kill()
    code = running.wait()
    assert code in (0, -9), running.text
    return code == -9


def compare(job: Job, whole: Path, parts: Path) -> None:
    for name in job.states:
        same_state(whole / "runs" / "t" / name, parts / "runs" / "t" / name)
    for name in job.files:
        one, other = (folder / "runs" / "t" / name for folder in (whole, parts))
        assert one.read_bytes() == other.read_bytes(), name
    left = [p.name for p in (parts / "runs" / "t").glob(".tmp-*")]
    assert not left, left


def run_job(name: str, kills: int, seed: int, folder: Path) -> str:
    """One job in one piece, and in as many pieces as `kills` leave; what was done, as a line."""
    job, rng = JOBS[name], random.Random(f"{name} {seed}")
    (folder / "architecture.yaml").write_text(yaml.safe_dump(ARCHITECTURE))
    whole = folder / "whole"
    whole.mkdir()
    start(job.script, "--help", folder=folder).wait()  # the server of processes is up
    began = time.monotonic()
    running = begin(job, whole)
    assert running.wait() == 0, running.text
    duration = time.monotonic() - began
    done, in_writes, number = 0, 0, 0
    while done < kills:
        number += 1
        parts = folder / f"parts{number}"
        parts.mkdir()
        for _ in range(min(3, kills - done)):  # more in one run, and it gets nowhere
            in_a_write = rng.random() < 0.5
            if not kill_once(job, parts, rng.uniform(0, SHARE * duration), in_a_write):
                break
            done, in_writes = done + 1, in_writes + in_a_write
        last = begin(job, parts)
        assert last.wait() == 0, last.text
        compare(job, whole, parts)
    return f"{name}: {done} kills ({in_writes} at a write) in {number} runs, all equal"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="in all")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    began = time.monotonic()
    for name in JOBS:
        with tempfile.TemporaryDirectory() as folder:
            each = -(-args.kills // len(JOBS))
            print(run_job(name, each, args.seed, Path(folder)), flush=True)
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
