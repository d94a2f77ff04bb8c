"""User errors end a command with one clear line and exit code 2; bugs keep their traceback."""

from __future__ import annotations

import contextlib
import difflib
import functools
import logging
import os
import re
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from utils.files import ROOT
from utils.interruption import Interrupted, catch_signals
from utils.ranks import is_main, rank
from utils.run_folder import log, resume_command

MAX_CHARS = 600  # of a line; a value out of a file can be of any length


def raised_here(error: BaseException) -> bool:
    """True if our code raised it; a ValueError of a library is a bug and keeps its traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    file = Path(frames[-1].filename).resolve()
    # a clone can hold a virtual environment, and an environment holds the installed toolkit
    return file.is_relative_to(ROOT) and "site-packages" not in file.relative_to(ROOT).parts


def one_line(error: BaseException | str) -> str:
    """Format a message as one line of printable characters and limited length."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        error = f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split())
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if len(text) > MAX_CHARS:
        text = f"{text[: MAX_CHARS // 2]} ... {text[-MAX_CHARS // 2 :]}"
    return text


def nearest(word: str, words: Iterable[str]) -> str:
    """Return " (did you mean ...?)", or nothing when no word is near."""
    matches = difflib.get_close_matches(word, list(words), n=1)
    return f" (did you mean '{matches[0]}'?)" if matches else ""


def wrapped(line: str) -> str:
    """Break a line at spaces where standard error is a terminal; files and pipes get it whole."""
    if not sys.stderr.isatty():
        return line
    width = shutil.get_terminal_size().columns
    return textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)


def out_of_memory(error: BaseException) -> str | None:
    """Return a line that memory ran out and how much was asked for; None for other errors."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's, known without importing torch
        place = "the device"
    elif isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        place = "the machine"
    else:
        return None
    amount = re.search(r"to allocate ([\d.]+ \w+)", str(error))  # PyTorch and numpy name it
    return f"{place} is out of memory" + (f" ({amount[1]} were asked for)" if amount else "")


@contextlib.contextmanager
def memory_hint(hint: str) -> Iterator[None]:
    """Raise ValueError with the hint where memory runs out inside.

    Args:
        hint: what was being done, and what to lower: "--batch-size 256: lower it".
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if (line := out_of_memory(error)) is None:
            raise
        raise ValueError(f"{line}; {hint}") from error


def user_errors(main: Callable[[], None]) -> Callable[[], None]:
    """Wrap a command's main: our ValueErrors and OSErrors become `error: ...`, exit code 2.

    So does memory that runs out. SIGTERM and Ctrl-C say how to go on, and exit with 143 and 130.
    """

    @functools.wraps(main)
    def guarded() -> None:
        with contextlib.suppress(AttributeError):  # a stream of a notebook or a test
            sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # an ASCII terminal gets ? for a rule
        catch_signals()
        try:
            main()
        except BrokenPipeError:  # `| head` has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the last flush
            _say("stopped: nothing reads standard output any more")
            sys.exit(141)  # 128 + SIGPIPE
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            line = out_of_memory(error)
            if line is not None:
                line += "; lower --batch-size, --eval-batch-size, --input-size or --widths"
            elif isinstance(error, OSError) or (
                isinstance(error, ValueError) and raised_here(error)
            ):
                line = one_line(error)
            else:
                raise
            _say(f"error: {line}")
            sys.exit(2)
        except KeyboardInterrupt as error:
            number = error.number if isinstance(error, Interrupted) else 2  # SIGINT
            name = {2: "Ctrl-C", 15: "SIGTERM"}.get(number, f"signal {number}")
            again = resume_command()
            _say(f"stopped by {name}; " + (f"go on with: {again}" if again else "nothing is lost"))
            sys.exit(128 + number)

    return guarded


def _say(line: str) -> None:
    """Print to standard error, and to the log file of the run where there is one.

    Of several processes that have not joined yet, which all meet the same error, the first speaks.
    """
    if not is_main():
        import torch.distributed as dist

        if not dist.is_initialized():
            return
        line = f"[rank {rank()}] {line}"
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()  # else the line would begin behind an unfinished bar
    print(wrapped(line), file=sys.stderr)
    for handler in log.handlers:
        if isinstance(handler, logging.FileHandler):
            with contextlib.suppress(Exception):  # the disk may be what is full
                handler.handle(log.makeRecord(log.name, 40, "", 0, line, (), None))  # 40: ERROR
