"""A finished run of search.py, for what is asked of it afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from config_file.arg_config.data_config import NO_AUGMENTATION
from config_file.arg_config.search_config import SearchConfig
from config_file.arg_config.sources import load_config
from data import load_splits
from lookup_table import Budget, Equivalence, LookupTable, build_budget
from lookup_table.builder import load_costs
from model import SearchSpace, build_supernet, load_architecture
from model.supernet_file import load_supernet, supernet_facts
from search_strategy.scores import ScoreLog
from search_strategy.workers import LocalWorkers, build_evaluator, scoring_processes


@dataclass(frozen=True)
class SearchedRun:
    """A finished run of search.py: its flags, space, costs, budget and answer int [L]."""

    folder: Path
    config: SearchConfig
    space: SearchSpace
    table: LookupTable
    budget: Budget
    answer: np.ndarray

    @classmethod
    def read(cls, folder: Path, device: torch.device) -> SearchedRun:
        """Read the run's files.

        Raises:
            ValueError: it is no finished search, or it had no supernet.
        """
        path = folder / "best_architecture.yaml"
        if not path.is_file():
            raise ValueError(f"{folder} is no finished run of search.py: {path} is missing")
        config = load_config(SearchConfig, None, ["--config", str(folder / "config.yaml")])
        if config.oracle:
            raise ValueError(f"{folder} is a search on known accuracies: it has no supernet")
        space, answer = load_architecture(path)
        latency, cache = config.latency, config.run.cache_dir
        file, settings = latency.lookup_table, latency.settings(device)
        dtype = config.budget.memory_dtype
        table = load_costs(space, config.metrics, cache, file, settings, dtype)
        budget = build_budget(table, config.budget.limits(table), Equivalence(space))
        return cls(folder, config, space, table, budget, budget.canonical(answer[None])[0])

    def scores(self, networks: np.ndarray, log: Path, device: torch.device) -> np.ndarray:
        """Scores of its supernet in percent [N], by its own flags; `log` keeps what is scored."""
        config, data = self.config, self.config.data
        path = config.checkpoint or self.folder / "supernet.pt"
        splits = load_splits(
            data, NO_AUGMENTATION, 2, config.run.random_seed, device, config.run.cache
        )
        supernet = build_supernet(self.space).to(device).to(memory_format=torch.channels_last)
        load_supernet(path, supernet, supernet_facts(self.space, data.dataset, data.train_portion))
        evaluator = build_evaluator(
            supernet, splits.calibration, splits.validation, config.evaluation
        )
        workers = LocalWorkers(evaluator, scoring_processes(splits.validation))
        return ScoreLog(workers, log, self.space)(networks)
