"""Scores of candidates: the protocol of a scorer, the log of known scores, ranks.

Every score is appended to a log once known, so a search is resumed by repeating it with the same
random numbers and taking from the log what was evaluated before. Architectures are evaluated in
groups that take some seconds: enough to share work, and no more than that is ever lost.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from lookup_table import architecture_keys
from model import SearchSpace
from utils.distributed import from_main, gather
from utils.ranks import is_main, rank, world_size
from utils.run_folder import progress_bar

Key = tuple[int, ...]  # an architecture, or the prefix of one
Scored = tuple[float, float]  # what an architecture is chosen by, and its top-1; both in percent
OnProgress = Callable[[float, float | None], None]  # (candidates done since the last call, a top-1)
SAVE_SECONDS = 10.0  # of evaluation between two writes
FIRST_GROUP = 8  # architectures, until it is known how long one takes


def no_progress(done: float, top1: float | None) -> None:
    """Ignore the progress of scoring."""


class Scorer(Protocol):
    """Computes scores and remembers none of them: the evaluator, a benchmark, or many of them."""

    def score(self, architectures: np.ndarray, on_progress: OnProgress = ...) -> np.ndarray:
        """Score sorted distinct architectures; a score depends on nothing but its architecture.

        Args:
            architectures: int [N, L], distinct, in lexicographic order: neighbours share work.
            on_progress: told of candidates done, in fractions, and of each top-1 once known.

        Returns:
            float64 [N, 2], score and top-1 in percent.
        """


class CandidateLog:
    """An append-only file of `architecture,score,top1` lines, the architecture as names.

    Where the score is top-1, the line has one number.
    """

    def __init__(self, path: Path, space: SearchSpace) -> None:
        self.path = path
        self.space = space

    def read(self) -> dict[Key, Scored]:
        """Read the scores; a last line that was cut off while it was written is removed.

        Raises:
            ValueError: damaged otherwise, or of another space.
        """
        if not self.path.exists():
            return {}
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            with self.path.open("rb+") as file:
                file.truncate(len(whole))
        scores = {}
        for number, line in enumerate(whole.decode("utf-8", "replace").splitlines(), 1):
            try:
                names, *numbers = line.split(",")
                score, *rest = map(float, numbers)
                (top1,) = rest or [score]  # more numbers: ValueError
                scores[tuple(self.space.encode(names.split(" ")).tolist())] = score, top1
            except ValueError as error:
                raise ValueError(
                    f"{self.path} is damaged in line {number} ({error}); remove it to search anew"
                ) from error
        return scores

    def append(self, architectures: np.ndarray, scores: np.ndarray) -> None:
        """Append scores [N, 2] of architectures [N, L]; they are on the disk when it returns."""
        lines = []
        for architecture, (score, top1) in zip(architectures, scores.tolist(), strict=True):
            numbers = (score,) if score == top1 else (score, top1)
            words = [" ".join(self.space.decode(architecture)), *map(repr, numbers)]  # exact floats
            lines.append(",".join(words) + "\n")
        with self.path.open("ab") as file:
            file.write("".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())


class ScoreLog:
    """Known scores of candidates; scores the others and logs them every few seconds.

    Attributes:
        known: score and top-1 of each architecture scored.

    Args:
        scorer: asked for what is not known.
        path: the candidate log, read now and appended to; None keeps no log, for scores that
            cost nothing.
        space: the search space of the log's architectures.

    Raises:
        ValueError: the log is damaged, or of another space.
    """

    def __init__(self, scorer: Scorer, path: Path | None, space: SearchSpace) -> None:
        self.scorer = scorer
        self.log = None if path is None else CandidateLog(path, space)
        self.known: dict[Key, Scored] = {} if self.log is None else self.log.read()
        self.group = FIRST_GROUP
        self.bar: tqdm | None = None
        self.done, self.best = 0.0, -1.0

    @contextlib.contextmanager
    def progress(self, total: int, name: str) -> Iterator[None]:
        """Show a bar over the candidates scored inside, with the best so far."""
        self.done, self.best = 0.0, -1.0
        with progress_bar(total, name, "net") as self.bar:
            yield
        self.bar = None

    def __call__(self, architectures: np.ndarray) -> np.ndarray:
        """Return scores in percent, float64 [N], of architectures int [N, L]."""
        keys = architecture_keys(architectures)
        new = sorted(set(keys) - self.known.keys())  # sorted and distinct, as scorers ask
        self.on_progress(len(keys) - len(new), None)
        while new:
            group, new = np.array(new[: self.group]), new[self.group :]
            start = time.perf_counter()
            scores = self.scorer.score(group, self.on_progress)
            self.known.update(
                zip(architecture_keys(group), map(tuple, scores.tolist()), strict=True)
            )
            if self.log is not None:
                self.log.append(group, scores)
            rate = len(group) / max(time.perf_counter() - start, 1e-3)  # networks per second
            self.group = min(max(1, int(SAVE_SECONDS * rate)), 512)
        if keys:
            self.best = max(self.best, self.top1(architectures).max())
        return np.array([self.known[key][0] for key in keys])

    def top1(self, architectures: np.ndarray) -> np.ndarray:
        """Return the top-1 in percent [N] of architectures that are scored."""
        return np.array([self.known[key][1] for key in architecture_keys(architectures)])

    def scored_top1(self, architectures: np.ndarray) -> np.ndarray:
        """Return the top-1 in percent [N] of architectures; score those that are not scored yet."""
        self(architectures)
        return self.top1(architectures)

    def on_progress(self, done: float, top1: float | None) -> None:
        """Advance the bar by `done` candidates and update its best top-1."""
        self.done += done
        if top1 is not None:
            self.best = max(self.best, top1)
        if self.bar is not None:
            if self.best >= 0:
                self.bar.set_postfix(best=f"{self.best:.2f}", refresh=False)
            self.bar.update(int(self.done + 1e-6) - self.bar.n)  # fractions sum to almost 1


class SharedScores:
    """Scorer that spreads candidates over the ranks; rank 0 asks, the others `run_worker`."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def score(self, architectures: np.ndarray, on_progress: OnProgress = no_progress) -> np.ndarray:
        """Score on all ranks, as `Scorer.score`; rank 0 only."""
        from_main(architectures)  # to the workers
        return self._score(architectures, lambda done, top1: on_progress(done * world_size(), top1))

    def run_worker(self) -> bool:
        """Score shares of what rank 0 asks for until it closes, then True; False on rank 0."""
        if is_main():
            return False
        while (architectures := from_main(np.empty(0))).size:  # empty: rank 0 has closed
            self._score(architectures, no_progress)
        return True

    def close(self) -> None:
        """Let the workers go; rank 0 only."""
        from_main(np.empty(0))  # ends their `run_worker`

    def _score(self, architectures: np.ndarray, on_progress: OnProgress) -> np.ndarray:
        size = -(-len(architectures) // world_size())  # sorted neighbours share their beginning
        mine = architectures[rank() * size : (rank() + 1) * size]  # can be empty
        return np.concatenate(gather(self.scorer.score(mine, on_progress)))  # by rank: sorted again
