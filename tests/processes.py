"""Commands as real processes that start in a moment: forked from one that has imported all.

Only for tests that need many processes, or to send them signals; a command's own start, from a
shell, is tested with the `command` fixture.
"""

from __future__ import annotations

import importlib
import itertools
import multiprocessing
import os
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from utils.checkpoint import load_checkpoint  # noqa: E402

CONTEXT = multiprocessing.get_context("forkserver")
LATE = (
    "matplotlib.figure",
    "thop",
    "torch._dynamo",
)  # imported when used
CONTEXT.set_forkserver_preload(["train_supernet", "search", "train_subnet", *LATE])
_numbers = itertools.count()


@dataclass
class Running:
    """A started command."""

    process: BaseProcess
    output: Path

    def wait(self, seconds: float = 300) -> int:
        """Its exit code; minus the signal's number where one killed it."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, "it does not end"
        return self.process.exitcode

    @property
    def text(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else ""


def _enter(
    script: str,
    words: list[str],
    folder: Path,
    output: Path,
    limit: int | None,
    environment: dict[str, str],
) -> None:
    os.environ.update(environment)
    tempfile.tempdir = str(output.parent)  # it ends without atexit, so pytest tidies what is left
    os.chdir(folder)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    if limit is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    torch.set_num_threads(1)
    sys.argv = [f"{script}.py", *words]
    importlib.import_module(script).main()


def start(
    script: str,
    *flags: object,
    folder: Path,
    file_limit: int | None = None,
    environment: dict[str, str] | None = None,
) -> Running:
    """Start `python SCRIPT.py flags` in a folder.

    Args:
        file_limit: bytes that a file may have; what is written beyond fails as on a full disk.
        environment: variables that are added.
    """
    output = folder.parent / f"{folder.name}-{next(_numbers)}.out"
    words = [str(flag) for flag in flags]
    arguments = (script, words, folder, output, file_limit, environment or {})
    process = CONTEXT.Process(target=_enter, args=arguments)
    process.start()
    return Running(process, output)


def same_state(first: Path, second: Path) -> None:
    """Weights, optimiser, schedule, sampler, loader and generators, bit for bit."""
    kind = "supernet" if first.name == "supernet.pt" else "subnet"
    a, b = load_checkpoint(first, kind), load_checkpoint(second, kind)

    def compare(x: object, y: object, where: str) -> None:
        assert type(x) is type(y), where
        if isinstance(x, torch.Tensor):
            assert torch.equal(x, y), where
        elif isinstance(x, dict):
            assert x.keys() == y.keys(), where
            for key in x:
                compare(x[key], y[key], f"{where}.{key}")
        elif isinstance(x, (list, tuple)):
            assert len(x) == len(y), where
            for i, (left, right) in enumerate(zip(x, y, strict=True)):
                compare(left, right, f"{where}[{i}]")
        else:
            assert x == y, where

    for key in a.keys() - {"config"}:
        compare(a[key], b[key], key)
