"""Scores of candidates, kept as they come: a search that is killed goes on where it was.

Every score is appended to a log once known, so a search is resumed by repeating it with the same
random numbers and taking from the log what was evaluated before. Architectures are evaluated in
groups that take some seconds: enough to share work, and no more than that is ever lost.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from lookup_table import architecture_keys
from model import SearchSpace
from search_strategy.evaluator import Key, Scored
from utils.progress import progress_bar

SAVE_SECONDS = 10.0  # of evaluation between two writes
FIRST_GROUP = 8  # architectures, until it is known how long one takes


class ScoreSource(Protocol):
    """The evaluator or an oracle: scores [N] of architectures [N, L], and those it knows."""

    cache: dict[Key, Scored]

    def __call__(
        self, architectures: np.ndarray, on_progress: Callable[[float, float | None], None] = ...
    ) -> np.ndarray: ...


class CandidateLog:
    """An append-only file of `architecture,score,top1` lines, the architecture as names.

    Of a score that is top-1, the line has it once.
    """

    def __init__(self, path: Path, space: SearchSpace) -> None:
        self.path = path
        self.space = space

    def read(self) -> dict[Key, Scored]:
        """The scores. A last line that was cut off while it was written is removed.

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
                (top1,) = rest or [score]
                scores[tuple(self.space.encode(names.split(" ")).tolist())] = score, top1
            except ValueError as error:
                raise ValueError(
                    f"{self.path} is damaged in line {number} ({error}); remove it to search anew"
                ) from error
        return scores

    def append(self, architectures: np.ndarray, scores: Sequence[Scored]) -> None:
        """Safe on the disk when it returns."""
        lines = []
        for architecture, (score, top1) in zip(architectures, scores, strict=True):
            numbers = (score,) if score == top1 else (score, top1)
            words = [" ".join(self.space.decode(architecture)), *map(repr, numbers)]
            lines.append(",".join(words) + "\n")
        with self.path.open("ab") as file:
            file.write("".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())


class LoggedScores:
    """A score source whose new scores go to a log every few seconds, behind a progress bar."""

    def __init__(self, source: ScoreSource, log: CandidateLog) -> None:
        self.source = source
        self.log = log
        self.source.cache.update(log.read())
        self.group = FIRST_GROUP
        self.bar: tqdm | None = None
        self.done, self.best = 0.0, -1.0

    @contextlib.contextmanager
    def progress(self, total: int, name: str):
        """A bar over the candidates scored inside, with the best so far."""
        self.done, self.best = 0.0, -1.0
        with progress_bar(total, name, "net") as self.bar:
            yield
        self.bar = None

    def __call__(self, architectures: np.ndarray) -> np.ndarray:
        """int [N, L] -> float64 [N]."""
        keys = architecture_keys(architectures)
        new = sorted(set(keys) - self.source.cache.keys())  # sorted: neighbours share their work
        self.on_progress(len(keys) - len(new), None)
        while new:
            group, new = np.array(new[: self.group]), new[self.group :]
            start = time.perf_counter()
            self.source(group, self.on_progress)
            cache = self.source.cache
            self.log.append(group, [cache[key] for key in architecture_keys(group)])
            rate = len(group) / max(time.perf_counter() - start, 1e-3)
            self.group = min(max(1, int(SAVE_SECONDS * rate)), 512)
        result = np.array([self.source.cache[key][0] for key in keys])
        if len(result):
            self.best = max(self.best, self.top1(architectures).max())
        return result

    def top1(self, architectures: np.ndarray) -> np.ndarray:
        """Of architectures that are scored, in percent [N]."""
        return np.array([self.source.cache[key][1] for key in architecture_keys(architectures)])

    def scored_top1(self, architectures: np.ndarray) -> np.ndarray:
        """Top-1 in percent [N] of architectures, which are scored where they are not yet."""
        self(architectures)
        return self.top1(architectures)

    def on_progress(self, done: float, top1: float | None) -> None:
        self.done += done
        if top1 is not None:
            self.best = max(self.best, top1)
        if self.bar is not None:
            if self.best >= 0:
                self.bar.set_postfix(best=f"{self.best:.2f}", refresh=False)
            self.bar.update(int(self.done + 1e-6) - self.bar.n)
