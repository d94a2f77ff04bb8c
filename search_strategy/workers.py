"""Scoring on the cores of this machine: processes that share the supernet's memory."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import multiprocessing
import signal
import sys
import threading
from multiprocessing.connection import Connection

import numpy as np
import torch

from config_file.arg_config.data_config import EvaluationConfig
from data import Loader
from data.streaming import StreamingLoader
from model import Supernet
from search_strategy.evaluator import Batches, Evaluator
from search_strategy.scores import OnProgress, Scorer, no_progress
from utils.ranks import launched
from utils.run_folder import log
from utils.threads import usable_cpus


def shares(architectures: np.ndarray, number: int) -> list[np.ndarray]:
    """Cut sorted architectures [N, L] into runs of about equal work; some may be empty.

    The work of an architecture is taken to be its layers beyond the prefix shared with the one
    before.
    """
    work = np.full(len(architectures), architectures.shape[1])  # [N], in layers
    same = architectures[1:] == architectures[:-1]  # [N - 1, L]
    work[1:] -= same.cumprod(axis=1).sum(axis=1)  # the length of the common prefix
    share = (number * (np.cumsum(work) - work / 2) / max(1, work.sum())).astype(int)
    return [architectures[share == i] for i in range(number)]


class LocalWorkers:
    """Scorer that spreads candidates over processes; every score is the same as alone.

    The processes are forked at the first call, when the weights are trained, so they share them and
    the images with this one. They end with it.

    Args:
        scorer: asked in every process for a share.
        processes: including this one; each uses as many threads as this one.
    """

    def __init__(self, scorer: Scorer, processes: int) -> None:
        self.scorer = scorer
        self.processes = processes
        self.connections: list[Connection] = []

    def close(self) -> None:
        """End the processes; another call would fork new ones."""
        for connection in self.connections:
            connection.send(None)  # ends `_work`
        self.connections = []

    def score(self, architectures: np.ndarray, on_progress: OnProgress = no_progress) -> np.ndarray:
        """Score in all processes, as `Scorer.score`.

        Raises:
            ValueError: a process was stopped.
        """
        if len(architectures) < 2 * self.processes:
            return self.scorer.score(architectures, on_progress)
        if not self.connections:
            log.info(f"scoring in {self.processes} processes")
            self.connections = [self._fork() for _ in range(self.processes - 1)]
        own, *others = shares(architectures, self.processes)
        for connection, share in zip(self.connections, others, strict=True):
            with contextlib.suppress(BrokenPipeError):  # `_received` says so
                connection.send(share)
        factor = len(architectures) / max(1, len(own))  # the others are about as far
        scores = self.scorer.score(own, lambda done, top1: on_progress(factor * done, top1))
        return np.concatenate([scores, *map(_received, self.connections)])  # sorted again

    def _fork(self) -> Connection:
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        threads = torch.get_num_threads()
        context.Process(target=_work, args=(self.scorer, theirs, threads), daemon=True).start()
        theirs.close()  # else recv() would not see the process end
        return ours


def _work(scorer: Scorer, connection: Connection, threads: int) -> None:
    """Score what comes until the parent process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent's handler is inherited
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: also where it is killed
    # OpenMP's threads belong to the thread that started them and are not forked with it: the main
    # thread would wait for them for ever, a new one starts its own
    answering = threading.Thread(target=_answer, args=(scorer, connection, threads))
    answering.start()
    answering.join()


def _answer(scorer: Scorer, connection: Connection, threads: int) -> None:
    """Score what comes, by so many threads."""
    torch.set_num_threads(threads)
    while True:
        try:
            architectures = connection.recv()
        except EOFError:
            return
        if architectures is None:  # the parent has no use for scores any more
            return
        try:
            connection.send(scorer.score(architectures))
        except Exception as error:  # the parent raises it
            connection.send(error)


def _received(connection: Connection) -> np.ndarray:
    """Return the scores [N, 2] of one share.

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


def scoring_processes(loader: Loader) -> int:
    """Return how many processes score candidates on the CPUs that threads leave; 1 is this one.

    Images that are streamed are decoded by processes already.
    """
    in_memory = loader.device.type == "cpu" and not isinstance(loader, StreamingLoader)
    if not in_memory or launched() or sys.platform != "linux":  # where forks share memory safely
        return 1
    return max(1, usable_cpus() // torch.get_num_threads())


def build_evaluator(
    supernet: Supernet, calibration: Loader, validation: Batches, config: EvaluationConfig
) -> Evaluator:
    """Make an evaluator that calibrates on the first batches of a loader.

    Raises:
        ValueError: the training images do not fill so many calibration batches.
    """
    number = config.calibration_batches
    if number > len(calibration):
        raise ValueError(
            f"--calibration-batches {number}: the training images fill only "
            f"{len(calibration)} batches of {calibration.batch_size}"
        )
    batches = [images for images, _ in itertools.islice(calibration, number)]
    return Evaluator(
        supernet, batches, validation, config.eval_precision, config.eval_cache_mb, config.score
    )
