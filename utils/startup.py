"""The first thing that a script does, before it imports anything that takes a while."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from pathlib import Path
from types import FrameType


def start_up() -> None:
    """Let Ctrl-C end the imports with one line, and OpenMP threads sleep while they wait."""
    signal.signal(signal.SIGINT, _stop)  # until `user_errors` takes over
    wait_without_spinning()


def _stop(number: int, frame: FrameType | None) -> None:
    """End at once: an exception could be swallowed, or blamed on a module half imported."""
    sys.stderr.write("stopped by Ctrl-C before anything began\n")
    sys.stderr.flush()
    os._exit(128 + number)


def wait_without_spinning() -> None:
    """Let waiting OpenMP threads fall asleep soon, unless the user has set a policy.

    GNU's spin for 100 times as long: a tenth faster on an idle machine, and up to ten times slower
    on a busy one (docs/performance.md). OpenMP reads this when PyTorch loads it.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "3000"  # GNU's, which Linux wheels bring
        os.environ["KMP_BLOCKTIME"] = "0"  # LLVM's and Intel's


def command() -> None:
    """Run an installed command, `oneshot-train-subnet`: the module of its name, as a script."""
    name = Path(sys.argv[0]).stem.removeprefix("oneshot-").replace("-", "_")
    package = __name__.removesuffix("utils.startup")  # "oneshot_nas."
    runpy.run_module(package + name, run_name="__main__")
