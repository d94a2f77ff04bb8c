"""A finished run of search.py, and the same search on supernets of other seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
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
from search_strategy.history import candidates_csv
from search_strategy.scores import ScoreLog
from search_strategy.workers import LocalWorkers, build_evaluator, scoring_processes
from utils.device import stream
from utils.files import write_text
from utils.interruption import run_script
from utils.metrics import MILLION
from utils.run_folder import log
from utils.statistics import kendall_tau, tau_text

SHARED_STREAM = 5  # of `utils.device.stream`; verify.py has 4
SHARED = 100  # random networks that all supernets score


@dataclass(frozen=True)
class SearchedRun:
    """A finished run of search.py: its flags, space, costs, budget and answer int [L].

    The answer is as the search scored it: an equal network's other code takes another path.
    """

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
        return cls(folder, config, space, table, budget, answer)

    def scores(self, networks: np.ndarray, log_file: Path, device: torch.device) -> np.ndarray:
        """Score by its supernet in percent [N], by its own flags; `log_file` keeps the scores."""
        config, data = self.config, self.config.data
        path = config.checkpoint or self.folder / "supernet.pt"
        splits = load_splits(  # the images that its search saw
            data, NO_AUGMENTATION, 2, config.run.random_seed, device, config.run.cache
        )
        supernet = build_supernet(self.space).to(device).to(memory_format=torch.channels_last)
        facts = data.dataset, data.train_portion, splits.fingerprint
        load_supernet(path, supernet, supernet_facts(self.space, *facts))
        evaluator = build_evaluator(
            supernet, splits.calibration, splits.validation, config.evaluation
        )
        workers = LocalWorkers(evaluator, scoring_processes(splits.validation))
        try:
            return ScoreLog(workers, log_file, self.space)(networks)
        finally:
            workers.close()  # forked processes would keep the supernet until this one ends


def search_again(first: SearchedRun, number: int, device: torch.device) -> list[SearchedRun]:
    """Repeat `first` on `number - 1` supernets that are trained with the next seeds; return all.

    Each is a run of search.py of its own in `supernets/`, and resumes as such.
    """
    run, runs = first.config.run, first.folder / "supernets"
    seeds = range(run.random_seed + 1, run.random_seed + number)
    folders = [runs / f"seed{seed}" for seed in seeds]
    for seed, folder in zip(seeds, folders, strict=True):
        if (folder / "best_architecture.yaml").is_file():
            continue
        log.info(f"supernet of seed {seed}: {folder}")
        words: list[object] = ["--title", folder.name, "--run-dir", runs]
        if (folder / "config.yaml").is_file():
            words += ["--resume"]
        else:
            words += ["--config", first.folder / "config.yaml", "--random-seed", seed]
            words += ["--supernet-seeds", 1, "--seeds", 1, "--no-random-control"]
            words += ["--cache-dir", run.cache_dir]
        run_script("search.py", words, folder.name)
    return [first, *(SearchedRun.read(folder, device) for folder in folders)]


def agreement(searched: Sequence[SearchedRun], device: torch.device) -> dict[str, str]:
    """Write supernets.csv; return rows on how far answers, costs and scores agree."""
    first = searched[0]
    answers = np.stack([other.answer for other in searched])
    rng = stream(first.config.run.random_seed, SHARED_STREAM)
    networks = np.concatenate([answers, first.budget.sample_unique(SHARED, rng)])  # answers first
    file = "shared_candidates.log"
    scores = np.stack([one.scores(networks, one.folder / file, device) for one in searched])
    seeds = [one.config.run.random_seed for one in searched]
    columns = (f"score_seed{seed}" for seed in seeds)
    of_answers = dict(zip(columns, scores[:, : len(answers)].tolist(), strict=True))
    text = candidates_csv(first.space, first.table, answers, {"seed": seeds}, of_answers)
    write_text(first.folder / "supernets.csv", text)
    pairs = list(itertools.combinations(range(len(searched)), 2))
    codes = first.budget.canonical(answers)
    same = [(codes[i] == codes[j]).mean() for i, j in pairs]
    shared = networks[len(answers) :]
    by_chance = np.mean([(a == b).mean() for a, b in itertools.pairwise(shared)])
    taus = [kendall_tau(*scores[[i, j], len(answers) :]) for i, j in pairs]
    known = [tau for tau in taus if not math.isnan(tau)]
    untold = f" ({len(taus) - len(known)} of {len(taus)} pairs left out, for one scores all alike)"
    own, metric = scores.diagonal(), first.budget.counts.metric
    on_others = (scores[:, : len(own)].sum() - own.sum()) / (len(own) * (len(own) - 1))
    costs = first.table.cost(answers, metric) / MILLION
    show = first.table.metric(metric).show_alone
    return {
        f"over {len(searched)} supernets": f"score of each answer: mean {own.mean():.2f} %, "
        f"standard deviation {own.std(ddof=1):.2f}; on the others: mean {on_others:.2f} %",
        "their answers": f"{100 * np.mean(same):.0f} % of layers alike, of two random networks "
        f"{100 * by_chance:.0f} %; {show(costs.min())} to {show(costs.max())}",
        "their scores": f"τ = {tau_text(float(np.mean(known or taus)))} between supernets, over "
        f"{len(shared)} random networks of the budget" + untold * (0 < len(known) < len(taus)),
    }
