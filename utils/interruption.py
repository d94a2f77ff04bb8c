"""SIGTERM and Ctrl-C: stop at a moment when nothing is lost, and so do scripts started here.

`catch_signals` turns both into an `Interrupted` exception. Inside `deferred()` a first signal only
sets a flag, so that a training step is finished and a checkpoint written before; a second signal
does not wait.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

from utils.files import ROOT
from utils.ranks import launched

TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_", "GROUP_", "ROLE_", "LOCAL_", "TORCHELASTIC_")


class Interrupted(KeyboardInterrupt):
    """A signal's request to end the process."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Deferral:
    """Flag of a `deferred()` block: the first signal that came inside."""

    number: int | None = None

    @property
    def asked(self) -> bool:
        return self.number is not None

    def stop(self) -> NoReturn:
        """Raise Interrupted; as SIGTERM where the signal came to another rank."""
        raise Interrupted(self.number or signal.SIGTERM)


_deferral: Deferral | None = None


def catch_signals() -> None:
    """Let SIGTERM and SIGINT raise Interrupted in the main thread. Elsewhere, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        return
    owner = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked data worker: as if nothing had been caught
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif _deferral is not None and not _deferral.asked:
            _deferral.number = number
        else:
            raise Interrupted(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)


@contextlib.contextmanager
def deferred() -> Iterator[Deferral]:
    """Hold a first signal back; Interrupted is raised by `stop`, or at the end of the block."""
    global _deferral
    outer, _deferral = _deferral, Deferral()
    mine = _deferral
    try:
        yield mine
    finally:
        _deferral = outer
    if mine.asked:
        mine.stop()


def run_script(script: str, words: Sequence[object], name: str) -> None:
    """Run `python SCRIPT words`, quietly and alone: under torchrun it is no rank.

    A signal to this process is passed on, so that the run leaves its checkpoint.

    Args:
        name: of the run, for the message of a failure.

    Raises:
        ValueError: the run failed; the message is its own.
        Interrupted: a signal came, and the run has ended.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(TORCHRUN)}
    if launched() and "CUDA_VISIBLE_DEVICES" not in kept:
        kept["CUDA_VISIBLE_DEVICES"] = os.environ.get("LOCAL_RANK", "0")  # this rank's GPU
    command = [sys.executable, str(ROOT / script), "--quiet", *map(str, words)]
    # a file for its errors: a pipe that nobody reads would stop a child that writes much
    with tempfile.TemporaryFile("w+") as errors, deferred() as signals:
        # in its own session: Ctrl-C reaches only this process, which passes it on
        child = subprocess.Popen(command, env=kept, stderr=errors, start_new_session=True)
        while child.poll() is None:
            time.sleep(0.2)
            if signals.asked:
                child.terminate()  # it writes its checkpoint
                child.wait()
        errors.seek(0)
        error = errors.read()
    if child.returncode:
        reason = error.strip().splitlines() or [f"exit code {child.returncode}"]
        raise ValueError(f"the run of {name} failed: {reason[-1].removeprefix('error: ')}")
