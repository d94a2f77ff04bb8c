"""A process that does one piece of work after another, and is replaced when it breaks."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar

T = TypeVar("T")


class Ended(Exception):
    """The process ended, or was killed, before it had an answer."""


class Worker:
    """Runs functions in one process of its own, which lives until work breaks it.

    An executor of `concurrent.futures` cannot kill a process that hangs.
    """

    def __init__(self) -> None:
        self._start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def call(self, work: Callable[..., T], *args: object, limit_s: float) -> T:
        """Return what `work` returns. Work that raises ends the process.

        Raises:
            Ended: there is no answer within `limit_s`, or never will be; the next call has a fresh
                process.
        """
        try:
            self.pipe.send((work, args))
            if self.pipe.poll(limit_s):
                return self.pipe.recv()
            how = f"no answer within {limit_s:.0f} s, the process was killed"
        except (EOFError, ConnectionError):
            self.process.join(5)
            how = f"the process ended with exit code {self.process.exitcode}"
        self._stop()
        self._start()
        raise Ended(how)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,))
        self.process.start()
        theirs.close()  # so that the end of the process ends the pipe

    def _stop(self) -> None:
        assert self.process.pid  # 0 would be this process's own group
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):  # it has not made its group, or is gone
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join(5)
        self.pipe.close()


def _serve(pipe: Connection) -> None:
    """Answer calls until the other side is gone."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C is the other side's; what the work starts is killed with this process
    with contextlib.suppress(EOFError):
        while True:
            work, args = pipe.recv()
            pipe.send(work(*args))
