"""Scoring on the cores of this machine: processes that share the supernet's memory."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import multiprocessing
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

Key = tuple[int, ...]


def shares(keys: Sequence[Key], number: int) -> list[list[Key]]:
    """Cut sorted architectures into runs of about equal work; some may be empty.

    The work of an architecture is taken to be its layers beyond the prefix shared with the one
    before.
    """
    work = [len(keys[0])] if keys else []
    for before, key in itertools.pairwise(keys):
        same = next(i for i, (a, b) in enumerate(zip(before, key, strict=True)) if a != b)
        work.append(len(key) - same)
    done = np.cumsum(work) - np.array(work) / 2
    share = (number * done / max(1, sum(work))).astype(int)
    return [[k for k, s in zip(keys, share, strict=True) if s == i] for i in range(number)]


class LocalWorkers:
    """An evaluator whose candidates are spread over processes; every score is the same as alone.

    The processes are forked at the first call, when the weights are trained, so they share them and
    the images with this one. They end with it.

    Args:
        evaluator: callable, architectures [N, L] -> scores [N], with a `cache` of scores by
            architecture; its score must not depend on which others it is given.
        processes: including this one; each uses as many threads as this one.
    """

    def __init__(self, evaluator: Any, processes: int) -> None:
        self.evaluator = evaluator
        self.cache: dict[Key, Any] = evaluator.cache
        self.processes = processes
        self.connections: list[Connection] = []

    def __call__(
        self,
        architectures: np.ndarray,
        on_progress: Callable[[float, float | None], None] = lambda done, top1: None,
    ) -> np.ndarray:
        keys = sorted(set(map(tuple, np.asarray(architectures).tolist())) - self.cache.keys())
        if len(keys) < 2 * self.processes:
            return self.evaluator(architectures, on_progress)
        if not self.connections:
            self.connections = [self._fork() for _ in range(self.processes - 1)]
        own, *others = shares(keys, self.processes)
        for connection, share in zip(self.connections, others, strict=True):
            with contextlib.suppress(BrokenPipeError):  # `_received` says so
                connection.send(share)
        factor = len(keys) / max(1, len(own))  # the others are about as far
        if own:
            self.evaluator(np.array(own), lambda done, top1: on_progress(factor * done, top1))
        for connection in self.connections:
            self.cache.update(_received(connection))
        return self.evaluator(architectures)  # all are in the cache

    def test(self, *args: Any) -> float:
        return self.evaluator.test(*args)

    def _fork(self) -> Connection:
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        threads = torch.get_num_threads()
        context.Process(target=_work, args=(self.evaluator, theirs, threads), daemon=True).start()
        theirs.close()
        return ours


def _work(evaluator: Any, connection: Connection, threads: int) -> None:
    """Score what comes until the parent process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: also where it is killed
    torch.set_num_threads(threads)
    while True:
        try:
            keys = connection.recv()
        except EOFError:  # the parent has no use for scores any more
            return
        try:
            if keys:
                evaluator(np.array(keys))
            connection.send({key: evaluator.cache[key] for key in keys})
        except Exception as error:  # the parent raises it
            connection.send(error)


def _received(connection: Connection) -> dict[Key, Any]:
    """The scores of one share.

    Raises:
        ValueError: the process has ended, as one does that the system stops for want of memory.
    """
    try:
        answer = connection.recv()
    except (EOFError, ConnectionResetError):
        raise ValueError(
            "a process that scores candidates was stopped, probably for want of memory; lower "
            "--eval-cache-mb, or set OMP_NUM_THREADS=1 to score in one process, and --resume"
        ) from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def can_fork() -> bool:
    """True where processes that share memory are safe: on Linux."""
    return sys.platform == "linux"
