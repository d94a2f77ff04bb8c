"""The run folder `runs/<title>/`, its log, and progress bars."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import sys
from datetime import datetime
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import NoReturn, TextIO

try:
    import fcntl
except ImportError:  # Windows: there runs are not protected from each other
    fcntl = None  # type: ignore[assignment]

from tqdm import tqdm

from utils.files import remove_temporaries
from utils.ranks import is_main, scratch_folder
from utils.report import command_line

TITLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
LOCK = ".lock"  # held by the process that writes the folder; the system frees it when that ends
log = logging.getLogger("oneshot_nas")
_locks: dict[Path, int | None] = {}  # folders of this process -> open file; the last is the run's
# what is said before there is a run folder, for its log.txt
_early = MemoryHandler(capacity=1 << 20, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
_no_bars: bool | None = None  # None: bars on a terminal only; a batch job's log would fill up


class _TqdmHandler(logging.Handler):
    """Handler that prints above a progress bar instead of through it."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self.stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=self.stream)


class _FileHandler(logging.FileHandler):
    """FileHandler that raises where the log cannot be written, instead of printing a traceback."""

    def handleError(self, record: logging.LogRecord) -> NoReturn:
        raise sys.exc_info()[1]  # type: ignore[misc]


def start_log(
    folder: Path | None = None, stream: TextIO | None = None, quiet: bool = False
) -> None:
    """Log to `stream` (standard output) and, given a folder, with times to its log.txt.

    `quiet`, and ranks other than 0, print errors only and show no progress bars.
    """
    global _no_bars
    log.setLevel(logging.INFO)
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    _no_bars = True if quiet or not is_main() else None
    log.addHandler(logging.NullHandler())
    if not is_main():
        return
    if not quiet:
        log.addHandler(_TqdmHandler(stream))
    if folder is None:
        log.addHandler(_early)
        return
    file = _FileHandler(folder / "log.txt", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    _early.setTarget(file)
    _early.flush()
    _early.setTarget(None)
    log.addHandler(file)


def progress_bar(total: int, name: str, unit: str, initial: int = 0) -> tqdm:
    """Make a bar over `total` units of work, of which `initial` are done."""
    return tqdm(
        total=total,
        initial=initial,
        desc=name,
        unit=unit,
        dynamic_ncols=True,
        mininterval=0.5,
        disable=_no_bars,
    )


def check_title(title: str) -> str:
    """Return the title if it can name a folder, else raise ValueError."""
    if not TITLE.fullmatch(title):
        raise ValueError(
            f"--title {title!r}: use letters, digits, '.', '_' and '-', a letter or digit first"
        )
    return title


def check_run_folder(run_dir: Path, title: str | None, resume: bool) -> None:
    """Raise ValueError if the title is taken, or there is nothing to resume. Creates nothing."""
    if resume and title is None:
        raise ValueError("--resume needs the --title of the run to go on with")
    if title is None or not is_main():  # of several processes, one looks
        return
    folder = run_dir / check_title(title)
    if resume and not (folder / "config.yaml").is_file():
        raise ValueError(f"nothing to resume: {folder} holds no run; leave --resume out")
    if not resume and _is_taken(folder):
        raise ValueError(f"{folder} exists; take another --title, or --resume to go on with it")


def _is_taken(folder: Path) -> bool:
    """True if the folder holds a started run: one that has written its flags."""
    if not folder.is_dir():
        return folder.exists()
    if (folder / LOCK).exists():  # ours
        return (folder / "config.yaml").exists()
    return any(folder.iterdir())


def make_run_folder(run_dir: Path, title: str | None, resume: bool, name: str) -> Path:
    """Create runs/<title>, or with --resume find it, and lock it for this process.

    An automatic title is `name` and the time. Of several ranks the first has the folder, each
    other one a scratch folder of its own.

    Raises:
        ValueError: the title is taken, or another process is writing that run.
    """
    if not is_main():
        return scratch_folder()
    check_run_folder(run_dir, title, resume)
    if title is None:
        title = _automatic_title(run_dir, name)
    folder = run_dir / title
    if folder.absolute() not in _locks:
        folder.mkdir(parents=True, exist_ok=True)
        _locks[folder.absolute()] = _lock(folder)
        check_run_folder(run_dir, title, resume)  # of two that start at once, one comes too late
        remove_temporaries(folder)
    return folder


def _automatic_title(run_dir: Path, name: str) -> str:
    """Make a folder under a new title, so that no other process can take it; return the title."""
    run_dir.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:80]  # of a user's file: any characters
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in itertools.count(1):
        title = f"{name}_{stamp}" + (f"-{number}" if number > 1 else "")
        with contextlib.suppress(FileExistsError):
            (run_dir / title).mkdir()
            return title
    raise AssertionError  # the loop has no end


def _lock(folder: Path) -> int | None:
    """Open and lock the lock file; None where there are no locks. Of several ranks, only 0 locks.

    Raises:
        ValueError: a living process has locked the folder.
    """
    if fcntl is None or os.environ.get("RANK", "0") != "0":
        return None
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(handle, 32).decode(errors="replace").strip()
        os.close(handle)
        raise ValueError(
            f"{folder} is being written by another process (pid {pid}); wait for it, or stop it"
        ) from None
    except OSError:  # a file system without locks
        os.close(handle)
        return None
    with contextlib.suppress(OSError):  # a full disk is the next write's to report
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
    return handle


def resume_command() -> str | None:
    """Return the command that resumes this process's run; None before it has a folder."""
    return command_to_resume(sys.argv[0], list(_locks)[-1]) if _locks else None


def command_to_resume(script: str, folder: Path) -> str:
    """Return the command by which a script resumes the run of this folder."""
    words = [script, "--title", folder.name, "--resume"]
    if folder.parent.absolute() != Path("runs").absolute():
        words += ["--run-dir", str(folder.parent)]
    return command_line(*words)
