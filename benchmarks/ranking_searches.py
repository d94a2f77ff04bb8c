"""True accuracy of what each strategy finds on a supernet's scores.

python -m benchmarks.ranking_searches --ranking runs/ranking/ranking.csv

Takes the scores of evaluate_ranking.py for all networks of a benchmark, lets every strategy search
them with its defaults (as `search.py --oracle` would) and prints by how many points of true
accuracy its answer is behind the best network within the budget: the mean over seeds of the search,
and that of seed 0. The supernet is one and the same.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from config_file.arg_config.fields import Parser, make_parser, take
from config_file.arg_config.search_config import SearchConfig
from config_file.arg_config.types import integer, numbers
from lookup_table import Budget, BudgetCounts, Equivalence, LookupTable, architecture_keys
from lookup_table.builder import load_table
from lookup_table.table import MILLION
from model import SearchSpace, load_space
from search_strategy.history import History, run_search
from utils.device import SEARCH_STREAM, stream
from utils.errors import user_errors

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
        """Raises ValueError where the file is no ranking.csv, or has no such column."""
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        missing = {"digits", "accuracy", column}.difference(rows[0] if rows else ())
        if missing:
            raise ValueError(
                f"{path} lacks the column {', '.join(sorted(missing))}: give --ranking a "
                f"ranking.csv of evaluate_ranking.py, and --column one of its scores"
            )
        self.networks = np.array([[int(d) for d in row["digits"]] for row in rows])
        self.accuracy = np.array([float(row["accuracy"]) for row in rows])
        self.score = np.array([float(row[column]) for row in rows])
        self.row = {key: i for i, key in enumerate(architecture_keys(self.networks))}

    def rows(self, architectures: np.ndarray) -> list[int]:
        """Indices of architectures [N, L] among the networks."""
        return [self.row[key] for key in architecture_keys(architectures)]


def search(
    ranking: Ranking,
    table: LookupTable,
    space: SearchSpace,
    budget: Budget,
    config: SearchConfig,
    seed: int,
) -> tuple[float, int]:
    """The answer's true accuracy in percent, and how many candidates were asked for."""
    flags = config.strategies[config.search_strategy]
    strategy = config.strategy(flags, budget, stream(seed, SEARCH_STREAM))
    history = History(space, table, smooth=config.smooth)
    run_search(strategy, lambda asked: ranking.score[ranking.rows(asked)], history)
    answer = history.architectures[[history.best("flops")]]
    return ranking.accuracy[ranking.rows(answer)[0]], len(history)


@user_errors
def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--ranking", type=Path, required=True)
    parser.add_argument("--column", default="score", help="score (default) or top1")
    parser.add_argument("--budgets", type=numbers, default=[48.0, 55.0, 63.0, 86.0])
    parser.add_argument("--seeds", type=integer(1), default=20)
    parser.add_argument("--search-space", default="nas_bench_macro")
    parser.add_argument(
        "--input-size", type=integer(1), default=32, help="that MACs are counted at"
    )
    args = parser.parse_args()
    ranking = Ranking(args.ranking, args.column)
    space = load_space(args.search_space, args.input_size, 10)
    table, equivalence = load_table(space), Equivalence(space)
    counts = BudgetCounts(table, "flops", equivalence)
    print(f"regret by {args.column}: mean of {args.seeds} searches (that of seed 0)")
    for mflops in args.budgets:
        budget = Budget(counts, None, round(mflops * MILLION), ranking.networks)
        best = ranking.accuracy[ranking.rows(budget.enumerate())].max()
        for name, words in SEARCHES.items():
            words = ["--search-strategy", *words]
            config = take(SearchConfig, make_parser(SearchConfig, "").parse_args(words))
            regret = []
            for seed in range(args.seeds):
                accuracy, evaluations = search(ranking, table, space, budget, config, seed)
                regret.append(best - accuracy)
            asked = f"{evaluations} of {budget.count} networks"
            print(
                f"{mflops:g} M  {name:<19} {np.mean(regret):.2f} ({regret[0]:.2f})  {asked}",
                flush=True,
            )


if __name__ == "__main__":
    main()
