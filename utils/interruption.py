"""SIGTERM and Ctrl-C: stop at a moment when nothing is lost.

`catch_signals` turns both into an `Interrupted` exception. Inside `deferred()` a first signal only
sets a flag, so that a training step is finished and a checkpoint written before; a second signal
does not wait.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn


class Interrupted(KeyboardInterrupt):
    """Request of a signal that the process end."""

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
