"""What the benchmarks of gradient search share: tables, runs, and the supernets that judge answers.

Every run is a command of the toolkit in the folder --out. A row is added to a table as soon as its
run has finished; started again, a benchmark does what is missing.
"""

from __future__ import annotations

import csv
import itertools
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import numpy as np

from benchmarks._common import ROOT
from config_file.arg_config.search_config import SearchConfig
from config_file.arg_config.sources import load_config
from lookup_table import Budget, BudgetCounts, Equivalence
from lookup_table.builder import load_table
from lookup_table.knapsack import most_probable
from model import Supernet
from model.supernet_file import load_supernet, supernet_facts
from sampler.convergence import count_skips, decisions, entropy_share, expected_cost
from search_strategy.workers import build_evaluator
from train_supernet import load_inputs, new_supernet
from utils.device import pick_device
from utils.files import atomic_path
from utils.statistics import kendall_tau

REFERENCE_SEEDS = (100, 101, 102)  # of the supernets that score; no search has them
REFERENCE_EPOCHS = 40
RANDOM_NETWORKS = 200


class Table:
    """A CSV of finished runs; a row is written when its run is done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                self.rows = list(csv.DictReader(file))

    def has(self, **keys: object) -> bool:
        return any(all(row[k] == str(v) for k, v in keys.items()) for row in self.rows)

    def add(self, row: dict) -> None:
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
        self.rows.append({k: str(v) for k, v in row.items()})
        print("  ".join(f"{k} {v}" for k, v in row.items()), flush=True)


def command(script: str, title: str, args: Namespace, *flags: object) -> float:
    """Run a script of the toolkit to its end, or go on with its run; return the seconds."""
    words = [sys.executable, str(ROOT / script), "--title", title, "--run-dir", str(args.out)]
    words += ["--device", args.device, "--quiet"]
    goes_on = (args.out / title / "config.yaml").exists()
    start = time.perf_counter()
    subprocess.run([*words, *(["--resume"] if goes_on else map(str, flags))], check=True)
    return time.perf_counter() - start


def trained(title: str, args: Namespace, *flags: object) -> Path:
    """Train a supernet, unless that is done; return its checkpoint."""
    done = args.out / title / "done"
    if not done.exists():
        command("train_supernet.py", title, args, *flags)
        done.touch()
    return done.with_name("supernet.pt")


class Reference:
    """Supernets of uniform paths that score networks, and random ones within the budget."""

    def __init__(self, space_name: str, args: Namespace, number: int = RANDOM_NETWORKS) -> None:
        words = ["--search-space", space_name, "--score", "probability", "--device", args.device]
        self.config = config = load_config(SearchConfig, "", words)
        self.device = pick_device(config.run.device)
        self.splits, self.space = load_inputs(config, self.device)
        self.table = load_table(self.space)
        self.target = BudgetCounts(self.table, "flops").median
        counts = BudgetCounts(self.table, "flops", Equivalence(self.space))
        budget = Budget(counts, None, self.target)
        rng = np.random.default_rng(REFERENCE_SEEDS[0])
        self.networks = budget.sample_unique(number, rng)
        images = (self.splits.test, self.splits.validation)  # no search has seen the former
        evaluators = []  # a pair of each supernet
        for seed in REFERENCE_SEEDS:
            supernet = self.supernet(f"reference_{space_name}_{seed}", args, REFERENCE_EPOCHS, seed)
            calibration = self.splits.calibration
            evaluators.append(
                [build_evaluator(supernet, calibration, x, config.evaluation) for x in images]
            )
        self.scorers = [on_test for on_test, _ in evaluators]
        kept = args.out / f"scores_{space_name}_{number}.npy"
        if not kept.exists():
            with atomic_path(kept) as path, path.open("wb") as file:
                np.save(file, [[score(self.networks) for score in pair] for pair in evaluators])
        scores, seen = np.load(kept).swapaxes(0, 1)  # [supernets, N] each
        self.random = scores.mean(0)
        pairs = itertools.combinations(scores, 2)
        self.agreement = {
            "tau_of_supernets": np.mean([kendall_tau(*pair) for pair in pairs]).round(3),
            "tau_of_images": np.mean(list(map(kendall_tau, scores, seen))).round(3),
            "random_median": np.median(self.random).round(2),
            "random_best": self.random.max().round(2),
        }

    def supernet(self, title: str, args: Namespace, epochs: int, seed: int) -> Supernet:
        """Return a supernet of uniform paths, trained now or before."""
        flags = ["--search-space", self.space.name, "--epochs", epochs, "--random-seed", seed]
        path = trained(title, args, *flags)
        supernet = new_supernet(self.config, self.space, self.device)
        data = self.config.data
        facts = supernet_facts(self.space, data.dataset, data.train_portion)
        load_supernet(path, supernet, facts)
        return supernet

    def row(self, p: np.ndarray) -> dict:
        """Judge a search's probabilities [L, C] and the most probable network."""
        answer = most_probable(p, Budget(BudgetCounts(self.table, "flops"), None, self.target))
        score = np.mean([scorer(answer[None])[0] for scorer in self.scorers])
        expected = expected_cost(decisions(self.space, p), self.table, "flops")
        skipped, skippable = count_skips(self.space, answer)
        return {
            "entropy_share": round(entropy_share(p, self.space.num_choices), 3),
            "expected_over_target": round(expected / self.target, 3),
            "above": round(float((self.random > score).mean()), 3),
            "score": round(float(score), 2),
            "cost_over_target": round(self.table.cost(answer, "flops") / self.target, 3),
            "skips": f"{skipped}/{skippable}",
            "answer": " ".join(self.space.decode(answer)),
        }
