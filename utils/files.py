"""Writing files so that a reader sees the old content or the new, never half of one."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of the toolkit
TEMPORARY = ".tmp-"  # prefix of a file that is being written


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; it replaces `path` when the block succeeds.

    Raises:
        OSError: the folder cannot be written or the disk is full; `path` is then as it was.
    """
    path = Path(path)
    temporary = None
    try:
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f"{TEMPORARY}{path.name[:200]}.", suffix=path.suffix
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _sync(temporary)  # before the rename: else a power cut can leave an empty file
        umask = os.umask(0)  # can only be read by setting it
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's 0600 would hide the file from colleagues
        os.replace(temporary, path)  # atomic in one file system
        _sync_folder(path.parent)
    except OSError as error:
        state = "what it held is as it was" if path.exists() else "nothing of it is left behind"
        raise OSError(f"cannot write {path} ({error.strerror or error}); {state}") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):  # the folder may have gone
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process in at a time, where the system has file locks and `path` can be written."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            file = stack.enter_context(open(path, "w"))  # stays: others may wait on it
            fcntl.flock(file, fcntl.LOCK_EX)  # goes when the process does, however it ends
        yield


def remove_temporaries(folder: Path) -> None:
    """Remove what processes that were killed while writing left in a folder."""
    for path in folder.glob(f"{TEMPORARY}*"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder to fill with files; it becomes `path` when the block succeeds.

    One process at a time may be inside; `path` must not exist at the end.
    """
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    part.mkdir()
    try:
        yield part
        for file in part.iterdir():
            _sync(file)
        os.rename(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _sync(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename in it last through a power cut, where the system allows that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
