"""The searches of a run: the one asked for, its repetitions and its random control."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from config_file.arg_config.search_config import SearchConfig
from lookup_table import Budget
from model import SearchSpace
from search_strategy.history import History, run_search
from search_strategy.plan import control_size
from search_strategy.random_search import RandomConfig, RandomSearch
from search_strategy.scores import ScoreLog
from search_strategy.strategy import SearchStrategy
from utils.device import CONTROL_STREAM, SEARCH_STREAM, stream
from utils.files import write_text
from utils.run_folder import log


def new_strategy(
    config: SearchConfig, budget: Budget, prior: np.ndarray | None, repetition: int = 0
) -> SearchStrategy:
    """Make a search of --search-strategy; repetition 0 is the one that is reported.

    Args:
        prior: choice probabilities float [L, C] of a differentiably trained supernet, or None.
    """
    # repetition 0: as without --seeds
    seed = [config.run.random_seed, SEARCH_STREAM, *([repetition] if repetition else [])]
    flags = config.strategies[config.search_strategy]
    return config.strategy(flags, budget, np.random.default_rng(seed), prior)


@dataclass(frozen=True)
class Searches:
    """Runs searches that share budget, prior and scores; each has random numbers of its own."""

    config: SearchConfig
    space: SearchSpace
    budget: Budget
    prior: np.ndarray | None
    scores: ScoreLog
    folder: Path
    writer: SummaryWriter

    def run(self, strategy: SearchStrategy, file: str, name: str) -> History:
        """Search; after each round the history is on disk and its numbers in TensorBoard."""
        config, scores = self.config, self.scores
        # scores are top-1 already
        top1_of = None if config.evaluation.score == "top1" else scores.top1
        history = History(self.space, self.budget.counts.table, top1_of, config.smooth)
        group = name.replace(" ", "_")

        def on_round() -> None:
            write_text(self.folder / file, history.to_csv())
            scalars = history.round_scalars() | strategy.metrics
            for tag, value in scalars.items():
                self.writer.add_scalar(f"{group}/{tag}", value, history.rounds[-1])
            log.info(f"{name}: {len(history)} candidates, best {history.top1.max():.2f}")

        with scores.progress(strategy.total, name):
            run_search(strategy, scores, history, on_round)
        return history

    def random_control(self, candidates: int) -> History:
        """Score as many random candidates as the search had."""
        rng = stream(self.config.run.random_seed, CONTROL_STREAM)
        # the search's own number, where it has many
        flags = RandomConfig(random_iteration=control_size(candidates))
        control = RandomSearch(flags, self.budget, rng)
        return self.run(control, "random_control.csv", "random control")

    def best_of_seeds(self, first: History) -> list[float]:
        """Return the best top-1 of each of --seeds searches, of which `first` is done."""
        metric = self.config.budget.info_metric
        bests = [first.top1[first.best(metric)]]
        for k in range(1, self.config.seeds):
            other = new_strategy(self.config, self.budget, self.prior, k)
            found = self.run(other, f"history_seed{k}.csv", f"seed {k}")
            bests.append(found.top1[found.best(metric)])
        return bests
