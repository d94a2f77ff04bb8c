"""What a script does before the imports that take seconds: --help, and how threads wait."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable


def answer_help(parser: Callable[[str], ArgumentParser], description: str | None) -> None:
    """Print the help of a command and exit, if that is all it is asked for."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        parser(description or "").parse_args(["--help"])


def wait_without_spinning() -> None:
    """Let waiting OpenMP threads fall asleep soon, unless the user has set a policy.

    GNU's spin for 100 times as long: a tenth faster on an idle machine, and up to ten times slower
    on a busy one (docs/performance.md). OpenMP reads this when PyTorch loads it.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "3000"  # GNU's, which Linux wheels bring
        os.environ["KMP_BLOCKTIME"] = "0"  # LLVM's and Intel's
