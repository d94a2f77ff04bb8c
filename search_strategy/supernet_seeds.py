"""Dependence of a search on its supernet: the same run with supernets of other seeds."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Sequence

import numpy as np
import torch

from search_strategy.searched_run import SearchedRun
from utils.child import run_script
from utils.device import stream
from utils.files import write_text
from utils.metrics import MILLION
from utils.run_folder import log
from utils.statistics import kendall_tau

SHARED_STREAM = 5
SHARED = 100  # random networks that all supernets score


def search_again(first: SearchedRun, number: int, device: torch.device) -> list[SearchedRun]:
    """`first` and the same search on `number - 1` supernets that are trained with the next seeds.

    Each is a run of search.py of its own in `supernets/`, and resumes as such.
    """
    run, runs = first.config.run, first.folder / "supernets"
    for seed in range(run.random_seed + 1, run.random_seed + number):
        folder = runs / f"seed{seed}"
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
    folders = sorted(runs.glob("seed*"), key=lambda folder: int(folder.name[4:]))
    return [first, *(SearchedRun.read(folder, device) for folder in folders)]


def agreement(searched: Sequence[SearchedRun], device: torch.device) -> dict[str, str]:
    """Write supernets.csv; rows on how far answers, costs and scores agree. K supernets."""
    first = searched[0]
    answers = np.stack([other.answer for other in searched])
    rng = stream(first.config.run.random_seed, SHARED_STREAM)
    networks = np.concatenate([answers, first.budget.sample_unique(SHARED, rng)])
    log_file = "shared_candidates.log"
    scores = np.stack([one.scores(networks, one.folder / log_file, device) for one in searched])
    write_text(first.folder / "supernets.csv", _csv(searched, scores[:, : len(answers)]))
    pairs = list(itertools.combinations(range(len(searched)), 2))
    same = [(answers[i] == answers[j]).mean() for i, j in pairs]
    shared = networks[len(answers) :]
    by_chance = np.mean([(a == b).mean() for a, b in itertools.pairwise(shared)])
    taus = [kendall_tau(*scores[[i, j], len(answers) :]) for i, j in pairs]
    own, metric = scores.diagonal(), first.budget.counts.metric
    on_others = (scores[:, : len(own)].sum() - own.sum()) / (len(own) * (len(own) - 1))
    costs = first.table.cost(answers, metric) / MILLION
    show = first.table.metric(metric).show_alone
    return {
        f"over {len(searched)} supernets": f"score of each answer: mean {own.mean():.2f} %, "
        f"standard deviation {own.std(ddof=1):.2f}; on the others: mean {on_others:.2f} %",
        "their answers": f"{100 * np.mean(same):.0f} % of layers alike, of two random networks "
        f"{100 * by_chance:.0f} %; {show(costs.min())} to {show(costs.max())}",
        "their scores": f"τ = {np.mean(taus):.3f} between supernets, over {len(shared)} random "
        f"networks of the budget",
    }


def _csv(searched: Sequence[SearchedRun], scores: np.ndarray) -> str:
    """A line per answer: seed, architecture, costs, its score on every supernet [K, K]."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    seeds = [one.config.run.random_seed for one in searched]
    metrics = searched[0].table.metrics
    writer.writerow(["seed", "architecture", *metrics, *(f"score_seed{seed}" for seed in seeds)])
    for seed, one, row in zip(seeds, searched, scores.T, strict=True):
        costs = [int(one.table.cost(one.answer, metric)) for metric in metrics]
        writer.writerow([seed, " ".join(one.space.decode(one.answer)), *costs, *row.tolist()])
    return text.getvalue()
