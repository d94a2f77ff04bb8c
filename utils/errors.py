"""User errors end a command with one clear line and exit code 2; bugs keep their traceback."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from utils.interruption import Interrupted, catch_signals
from utils.memory import out_of_memory
from utils.ranks import is_main, rank
from utils.run_folder import log, resume_command

ROOT = Path(__file__).resolve().parent.parent
MAX_CHARS = 600  # of a line; a value out of a file can be of any length


def raised_here(error: BaseException) -> bool:
    """Whether our code raised it: a ValueError out of a library is a bug, and shows as one."""
    frames = traceback.extract_tb(error.__traceback__)
    file = Path(frames[-1].filename).resolve()
    # a clone can hold a virtual environment, and an environment holds the installed toolkit
    return file.is_relative_to(ROOT) and "site-packages" not in file.relative_to(ROOT).parts


def one_line(error: BaseException | str) -> str:
    """The message as one line of printable characters and limited length."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        error = f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split())
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if len(text) > MAX_CHARS:
        text = f"{text[: MAX_CHARS // 2]} ... {text[-MAX_CHARS // 2 :]}"
    return text


def user_errors(main: Callable[[], None]) -> Callable[[], None]:
    """Wraps a command's main: ValueError of ours and OSError become `error: ...`, exit code 2.

    So does memory that runs out. SIGTERM and Ctrl-C say how to go on, and exit with 143 and 130.
    """

    @functools.wraps(main)
    def wrapped() -> None:
        with contextlib.suppress(AttributeError):  # a stream of a notebook or a test
            sys.stdout.reconfigure(errors="replace")  # an ASCII terminal gets ? for a rule
        catch_signals()
        try:
            main()
        except BrokenPipeError:  # `| head` has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the last flush
            _say("stopped: nothing reads standard output any more")
            sys.exit(141)
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
            number = error.number if isinstance(error, Interrupted) else 2
            name = {2: "Ctrl-C", 15: "SIGTERM"}.get(number, f"signal {number}")
            again = resume_command()
            _say(f"stopped by {name}; " + (f"go on with: {again}" if again else "nothing is lost"))
            sys.exit(128 + number)

    return wrapped


def _say(line: str) -> None:
    """To standard error, and to the log file of the run where there is one.

    Of several processes that have not joined yet, which all meet the same error, the first speaks.
    """
    if not is_main():
        import torch.distributed as dist

        if not dist.is_initialized():
            return
        line = f"[rank {rank()}] {line}"
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()  # else the line would begin behind an unfinished bar
    print(line, file=sys.stderr)
    for handler in log.handlers:
        if hasattr(handler, "baseFilename"):
            with contextlib.suppress(Exception):  # the disk may be what is full
                handler.handle(log.makeRecord(log.name, 40, "", 0, line, (), None))
