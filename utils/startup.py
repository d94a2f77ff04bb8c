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
    """Let idle OpenMP threads sleep, unless the user has set a policy.

    Spinning threads gain little on an idle machine and stop one that is not. OpenMP reads this when
    PyTorch loads it.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # GNU's, which Linux wheels bring
        os.environ["KMP_BLOCKTIME"] = "0"  # LLVM's and Intel's
