"""User errors end a command with one clear line and exit code 2; bugs keep their traceback."""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def raised_here(error: BaseException) -> bool:
    """Whether our code raised it: a ValueError out of a library is a bug, and shows as one."""
    frames = traceback.extract_tb(error.__traceback__)
    file = Path(frames[-1].filename).resolve()
    return file.is_relative_to(ROOT) and "site-packages" not in file.parts


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def user_errors(main: Callable[[], None]) -> Callable[[], None]:
    """Wraps a command's main: ValueError of ours and OSError become `error: ...`, exit code 2."""

    @functools.wraps(main)
    def wrapped() -> None:
        try:
            main()
        except (ValueError, OSError) as error:
            if isinstance(error, ValueError) and not raised_here(error):
                raise
            print(f"error: {one_line(error)}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("\nstopped; the same command with --resume --title continues", file=sys.stderr)
            sys.exit(130)

    return wrapped
