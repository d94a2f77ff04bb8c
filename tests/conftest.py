"""Shared by all tests: the tiny space, and running a command as a user would."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in parallel; commands inherit it
import torch

import data
import lookup_table.__main__
from config_file.arg_config.data_config import AugmentConfig, DataConfig
from data import Splits
from lookup_table import LookupTable
from lookup_table.builder import load_table
from model import SearchSpace, load_space
from utils.run_folder import log

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "tests" / "tiny.yaml"
Command = Callable[..., subprocess.CompletedProcess]
Main = Callable[..., str]

LONGEST = (
    "test_verify",
    "test_kills",
    "test_distributed",
    "test_gpu_benchmark",
    "test_differentiable",
)

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the files of the longest tests first, so that no core waits for them at the end."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


def load_splits(
    dataset: str,
    folder: Path | None,
    input_size: int,
    batch_size: int,
    eval_batch_size: int,
    train_portion: float = 0.8,
    seed: int = 0,
    device: torch.device | None = None,
    *,
    augment: bool = True,
    randaugment: int = 0,
    cutout: int = 0,
    pipeline: str = "auto",
    num_workers: int = 0,
    **place: Any,
) -> Splits:
    """`data.load_splits` of flags, on the CPU; `place`: its further arguments."""
    flags = DataConfig(
        dataset=dataset,
        data_path=folder,
        input_size=input_size,
        eval_batch_size=eval_batch_size,
        train_portion=train_portion,
        data_pipeline=pipeline,
        num_workers=num_workers,
    )
    change = AugmentConfig(augment=augment, randaugment=randaugment, cutout=cutout)
    device = device or torch.device("cpu")
    return data.load_splits(flags, change, batch_size, seed, device, **place)


@pytest.fixture(scope="session")
def tiny() -> SearchSpace:
    return load_space(TINY, input_size=8, num_classes=10)


@pytest.fixture(scope="session")
def tiny_table(tiny: SearchSpace) -> LookupTable:
    return load_table(tiny)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs `python SCRIPT ...` in an empty folder; `ok=False` expects a user error."""

    def run(script: str, *flags: object, ok: bool = True) -> subprocess.CompletedProcess:
        words = [sys.executable, str(ROOT / script), *map(str, flags)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        if ok:
            assert done.returncode == 0, done.stderr[-3000:]
        else:
            assert done.returncode == 2, (done.returncode, done.stderr[-3000:])
            errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
            assert len(errors) == 1 and "Traceback" not in done.stderr, done.stderr[-3000:]
        return done

    return run


@pytest.fixture
def main(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Main]:
    """Runs a script's main() in this process, in an empty folder: much faster than `command`.

    It returns what was printed; with `ok=False` it expects a user error and returns its line,
    alone on stderr where `notes` is False.
    """

    def run(script: ModuleType, *flags: object, ok: bool = True, notes: bool = True) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *map(str, flags)])
        if ok:
            script.main()
            return capsys.readouterr().out
        with pytest.raises(SystemExit) as stopped:
            script.main()
        lines = capsys.readouterr().err.splitlines()
        errors = [x for x in lines if x.startswith("error: ")]
        assert stopped.value.code == 2 and len(errors) == 1, lines
        assert notes or lines == errors, lines
        return errors[0]

    handlers = list(log.handlers)
    yield run
    log.handlers[:] = handlers  # the script's write to streams that are captured


@pytest.fixture
def lookup(main: Main) -> Main:
    """Runs `python -m lookup_table` in this process."""
    return functools.partial(main, lookup_table.__main__, notes=False)
