"""--help at once: a script answers it before the imports that take seconds."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable


def answer_help(parser: Callable[[str], ArgumentParser], description: str | None) -> None:
    """Print the help of a command and exit, if that is all it is asked for."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        parser(description or "").parse_args(["--help"])
