"""The candidate log, and a search that is stopped at any candidate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import evolution

from lookup_table import Budget, BudgetCounts, Equivalence, LookupTable, architecture_keys
from model import SearchSpace
from search_strategy.history import History, run_search
from search_strategy.scores import CandidateLog, OnProgress, ScoreLog, no_progress


class Stopped(Exception):
    pass


class Counting:
    """A scorer that counts what it evaluates, and can stop at any group."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.evaluated: list[tuple[int, ...]] = []
        self.stop_after = stop_after

    def score(self, architectures: np.ndarray, on_progress: OnProgress = no_progress) -> np.ndarray:
        if self.stop_after is not None and len(self.evaluated) >= self.stop_after:
            raise Stopped
        keys = architecture_keys(architectures)
        assert keys == sorted(set(keys))
        self.evaluated += keys
        scores = 100 * np.abs(np.sin(architectures @ np.arange(1, architectures.shape[1] + 1))) / 3
        on_progress(len(keys), None)
        return np.stack([scores, self.top1(scores)], axis=1)

    def top1(self, scores: np.ndarray) -> np.ndarray:
        return scores


def searched(
    space: SearchSpace, table: LookupTable, path: Path, source: Counting, top1: bool = False
) -> History:
    budget = Budget(BudgetCounts(table, "flops", Equivalence(space)), None, None)
    scores = ScoreLog(source, path, space)
    history = History(space, table, scores.top1) if top1 else History(space, table)
    run_search(evolution(budget, 4, 20, 5, seed=3), scores, history)
    return history


def test_a_search_stopped_anywhere_goes_on_to_the_same_history(
    tiny: SearchSpace, tiny_table: LookupTable, tmp_path: Path
) -> None:
    """Stopped after each group, then the log cut within a line: nothing twice, same bytes."""
    whole = Counting()
    expected = searched(tiny, tiny_table, tmp_path / "whole.log", whole).to_csv()
    assert len(whole.evaluated) == 80
    log = (tmp_path / "whole.log").read_bytes()
    for stop in (1, 9, 21, 30, 60):
        path = tmp_path / f"{stop}.log"
        first = Counting(stop)
        with pytest.raises(Stopped):
            searched(tiny, tiny_table, path, first)
        second = Counting()
        assert searched(tiny, tiny_table, path, second).to_csv() == expected
        assert sorted(first.evaluated + second.evaluated) == sorted(whole.evaluated)
    for cut in (3, len(log) // 3, len(log) // 2 + 1, len(log) - 1):
        path = tmp_path / f"cut{cut}.log"
        path.write_bytes(log[:cut])
        again = Counting()
        assert searched(tiny, tiny_table, path, again).to_csv() == expected
        assert len(again.evaluated) == 80 - log[:cut].count(b"\n")
        assert path.read_bytes().count(b"\n") == 80


def test_top1_is_kept_beside_another_score(
    tiny: SearchSpace, tiny_table: LookupTable, tmp_path: Path
) -> None:
    """The search goes by the score; both are in the history and, resumed, come from the log."""

    class Scored(Counting):
        def top1(self, scores: np.ndarray) -> np.ndarray:
            return np.floor(scores)

    plain = searched(tiny, tiny_table, tmp_path / "plain.log", Counting()).to_csv().splitlines()
    for source in (Scored(), again := Scored()):
        history = searched(tiny, tiny_table, tmp_path / "log", source, top1=True)
        assert history.scores[history.best("flops")] == history.scores.max()
        assert history.winner_facts("flops")["top1"] == np.floor(history.scores.max())
        head, *lines = history.to_csv().splitlines()
        assert head == plain[0].replace("top1", "score,top1")
        assert [line.rsplit(",", 1)[0] for line in lines] == plain[1:]
        assert all(float(s) // 1 == float(t) for *_, s, t in (x.split(",") for x in lines))
    assert again.evaluated == []


def test_a_damaged_log_is_an_error(tiny: SearchSpace, tmp_path: Path) -> None:
    for text in ("k3_e3 k3_e3 k3_e3,1.0\n", "k3_e3 k3_e3 k3_e3 k3_e3,x\n", "\x00\n"):
        (tmp_path / "log").write_text(text)
        with pytest.raises(ValueError, match="damaged in line 1"):
            CandidateLog(tmp_path / "log", tiny).read()


def test_what_is_known_is_not_scored_again(tiny, tiny_table) -> None:
    scores = ScoreLog(source := Counting(), None, tiny)
    budget = Budget(BudgetCounts(tiny_table, "flops", Equivalence(tiny)), None, None)
    architectures = budget.sample_unique(30, np.random.default_rng(0))
    with scores.progress(90, "test"):
        first = scores(architectures)
        assert scores(np.repeat(architectures, 2, axis=0)).tolist() == np.repeat(first, 2).tolist()
        assert scores.best == first.max()
        assert scores.done == pytest.approx(90)
    assert sorted(source.evaluated) == sorted(architecture_keys(architectures))
