"""SIGTERM and Ctrl-C: stop at a moment when nothing is lost.

`catch_signals` turns both into an `Interrupted` exception. Inside `deferred()` the exception waits
for `raise_if_asked()`, so that a training step is finished and a checkpoint written before; a
second signal does not wait.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Deferral:
    """What a signal left behind inside a `deferred()` block."""

    def __init__(self) -> None:
        self.number: int | None = None

    @property
    def asked(self) -> bool:
        return self.number is not None

    def raise_if_asked(self) -> None:
        """Raises Interrupted if a signal has come."""
        if self.number is not None:
            raise Interrupted(self.number)

    def stop(self) -> None:
        """Raises Interrupted, also where it was another process that a signal has come to."""
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
    """Signals wait for the `raise_if_asked()` of what this gives, at the latest for its end."""
    global _deferral
    before, _deferral = _deferral, Deferral()
    mine = _deferral
    try:
        yield mine
    finally:
        _deferral = before
    mine.raise_if_asked()
