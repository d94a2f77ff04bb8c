"""What each strategy finds on a supernet's scores, in true accuracy.

python -m benchmarks.ranking_searches --ranking runs/ranking/ranking.csv

Takes the scores of evaluate_ranking.py for all networks of a benchmark, lets every strategy search
them with its defaults (as `search.py --oracle` would) and prints by how many points of true
accuracy its answer is behind the best network within the budget: the mean over seeds of the search,
and that of seed 0. The supernet is one and the same.
"""

from __future__ import annotations

import argparse
import csv
from argparse import Namespace
from pathlib import Path

import numpy as np

from config_file.arg_config.search_config import search_parser
from config_file.arg_config.types import numbers
from lookup_table import Budget, BudgetCounts, Equivalence, LookupTable, load_table
from lookup_table.table import MILLION
from model import SearchSpace, load_space
from search_strategy import History, build_strategy, run_search
from utils.device import SEARCH_STREAM, stream

# a name -> what follows --search-strategy
SEARCHES = {
    "evolution": ["evolution"],
    "evolution --smooth": ["evolution", "--smooth"],
    "additive": ["additive"],
    "random": ["random"],
    "random --smooth": ["random", "--smooth"],
}


class Ranking:
    """Networks int [N, L] of a ranking.csv with their scores and true accuracies, float [N]."""

    def __init__(self, path: Path, column: str) -> None:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self.networks = np.array([[int(d) for d in row["digits"]] for row in rows])
        self.accuracy = np.array([float(row["accuracy"]) for row in rows])
        self.score = np.array([float(row[column]) for row in rows])
        self.row = {tuple(network): i for i, network in enumerate(self.networks.tolist())}

    def rows(self, architectures: np.ndarray) -> np.ndarray:
        """Where they are, int [N]."""
        return np.array([self.row[tuple(a)] for a in architectures.tolist()])


def regret(
    ranking: Ranking, space: SearchSpace, table: LookupTable, budget: Budget, args: Namespace
) -> tuple[float, int]:
    """Points of true accuracy behind the best network within the budget; candidates asked for."""
    strategy = build_strategy(args, budget, stream(args.random_seed, SEARCH_STREAM))
    history = History(space, table, smooth=args.smooth)
    run_search(strategy, lambda asked: ranking.score[ranking.rows(asked)], history)
    answer = history.architectures[[history.best("flops")]]
    best = ranking.accuracy[ranking.rows(budget.enumerate())].max()
    return float(best - ranking.accuracy[ranking.rows(answer)][0]), len(history)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranking", type=Path, required=True)
    parser.add_argument("--column", default="score", help="score (default) or top1")
    parser.add_argument("--budgets", type=numbers, default=[48.0, 55.0, 63.0, 86.0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--search-space", default="nas_bench_macro")
    parser.add_argument("--input-size", type=int, default=32, help="that MACs are counted at")
    args = parser.parse_args()
    ranking = Ranking(args.ranking, args.column)
    space = load_space(args.search_space, args.input_size, 10)
    table, equivalence = load_table(space), Equivalence(space)
    counts = BudgetCounts(table, "flops", equivalence)
    print(f"regret by {args.column}: mean of {args.seeds} searches (that of seed 0)")
    for mflops in args.budgets:
        budget = Budget(counts, None, round(mflops * MILLION), ranking.networks)
        for name, words in SEARCHES.items():
            flags = search_parser("").parse_args(["--search-strategy", *words])
            found = []
            for seed in range(args.seeds):
                flags.random_seed = seed
                found.append(regret(ranking, space, table, budget, flags))
            mean = np.mean([points for points, _ in found])
            asked = f"{found[0][1]} of {budget.count} networks"
            print(f"{mflops:g} M  {name:<19} {mean:.2f} ({found[0][0]:.2f})  {asked}", flush=True)


if __name__ == "__main__":
    main()
