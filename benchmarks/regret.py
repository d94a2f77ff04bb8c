"""Points of true accuracy by which searches stay behind the best network within a budget.

python -m benchmarks.regret --oracle nas_bench_macro.json [--out docs/figures/oracle_regret.png]
python -m benchmarks.regret --ranking runs/ranking/ranking.csv

--oracle: searches on true accuracies; the mean regret over seeds of the best found so far, by
evaluations. Claim: at equal evaluations evolution's is lower than random search's.

--ranking: searches on a supernet's scores, which evaluate_ranking.py has written for all networks
of a benchmark. Every strategy has its defaults, as in `search.py --oracle`; the regret is that of
its answer: the mean over seeds of the search, and that of seed 0. The supernet is one and the same.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from config_file.arg_config.fields import Parser, make_parser, take
from config_file.arg_config.search_config import SearchConfig
from config_file.arg_config.types import integer, numbers
from lookup_table import Budget, BudgetCounts, Equivalence, LookupTable, architecture_keys
from lookup_table.builder import load_table
from lookup_table.table import MILLION
from model import SearchSpace, load_space
from search_strategy.benchmark import Benchmark, from_digits
from search_strategy.history import History, run_search
from utils.device import SEARCH_STREAM, stream
from utils.errors import user_errors
from utils.files import atomic_path

EVALUATIONS = 300
BRED = ("--population", "20", "--generation-num", "15")  # 300 in all
CURVES = {  # name -> what follows --search-strategy, and its colour
    "random": (["random", "--random-iteration", str(EVALUATIONS)], "tab:gray"),
    "evolution": (["evolution", *BRED, "--parent-num", "8"], "tab:blue"),
    "aging": (["evolution", *BRED, "--parent-num", "8", "--aging", "3"], "tab:orange"),
    "pareto": (["pareto", *BRED, "--objectives", "flops"], "tab:red"),
}
ANSWERS = ("evolution", "evolution --smooth", "additive", "random", "random --smooth")


@dataclass(frozen=True)
class Known:
    """Networks int [N, L] with their true accuracies and the scores that are searched, [N]."""

    space: SearchSpace
    table: LookupTable
    networks: np.ndarray
    accuracy: np.ndarray
    score: np.ndarray

    @cached_property
    def _row(self) -> dict[tuple[int, ...], int]:
        return {key: i for i, key in enumerate(architecture_keys(self.networks))}

    def rows(self, architectures: np.ndarray) -> list[int]:
        """Return the indices of architectures [N, L] among the networks."""
        return [self._row[key] for key in architecture_keys(architectures)]

    def budget(self, counts: BudgetCounts, mflops: float) -> tuple[Budget, float]:
        """Return the budget and the best accuracy within it."""
        budget = Budget(counts, None, round(mflops * MILLION), self.networks)
        return budget, self.accuracy[self.rows(budget.enumerate())].max()

    def search(self, words: list[str], budget: Budget, rng: np.random.Generator) -> History:
        """Search the scores with the flags that follow --search-strategy."""
        read = make_parser(SearchConfig, "").parse_args(["--search-strategy", *words])
        config = take(SearchConfig, read)
        strategy = config.strategy(config.strategies[config.search_strategy], budget, rng)
        history = History(self.space, self.table, smooth=config.smooth)
        run_search(strategy, lambda asked: self.score[self.rows(asked)], history)
        return history


def read_ranking(path: Path, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read networks, accuracies and scores of a ranking.csv.

    Raises:
        ValueError: the file is no ranking.csv, or has no such column.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if missing := {"digits", "accuracy", column}.difference(rows[0] if rows else ()):
        raise ValueError(
            f"{path} lacks the column {', '.join(sorted(missing))}: give --ranking a "
            "ranking.csv of evaluate_ranking.py, and --column one of its scores"
        )
    networks = np.array([from_digits(row["digits"]) for row in rows])
    return networks, *(np.array([float(row[c]) for row in rows]) for c in ("accuracy", column))


def compare_curves(
    known: Known, counts: BudgetCounts, budgets: list[float], seeds: int, out: Path | None
) -> None:
    """Print, and plot, regrets after so many evaluations."""
    marks = (50, 100, 200, EVALUATIONS)
    print(f"mean regret over {seeds} seeds after {marks} evaluations")
    curves: dict[float, dict[str, np.ndarray]] = {}
    for mflops in budgets:
        budget, best = known.budget(counts, mflops)
        curves[mflops] = {}
        for name, (words, _) in CURVES.items():
            found = np.empty((seeds, EVALUATIONS))
            for seed in range(seeds):
                scores = known.search(words, budget, np.random.default_rng(seed)).scores
                found[seed] = scores[-1]  # where everything inside has been seen
                found[seed, : len(scores)] = scores[:EVALUATIONS]
            regret = best - np.maximum.accumulate(found, axis=1)
            curves[mflops][name] = regret
            means = "  ".join(f"{regret[:, mark - 1].mean():.3f}" for mark in marks)
            print(f"{mflops:g} M ({budget.count} networks known)  {name:<10} {means}", flush=True)
    if out:
        plot(out, curves, seeds)


def plot(path: Path, curves: dict[float, dict[str, np.ndarray]], seeds: int) -> None:
    """Draw the curves of four budgets."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey=True).ravel()
    x = np.arange(1, EVALUATIONS + 1)
    for panel, (mflops, by_name) in zip(axes, curves.items(), strict=True):
        for name, values in by_name.items():
            mean, error = values.mean(0), values.std(0, ddof=1) / np.sqrt(seeds)
            color = CURVES[name][1]
            panel.plot(x, mean, color=color, label=name)
            panel.fill_between(x, mean - error, mean + error, color=color, alpha=0.2, lw=0)
        panel.set_title(f"budget {mflops:g} M MACs")
        panel.set_ylim(0, 1.5)
        panel.grid(alpha=0.25)
    for panel in axes[2:]:
        panel.set_xlabel("evaluations")
    for panel in axes[::2]:
        panel.set_ylabel("regret (points of true accuracy)")
    figure.suptitle(f"NAS-Bench-Macro, mean of {seeds} seeds and its standard error")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")


def compare_answers(
    known: Known, counts: BudgetCounts, budgets: list[float], seeds: int, column: str
) -> None:
    """Print regrets of the answers."""
    print(f"regret by {column}: mean of {seeds} searches (that of seed 0)")
    for mflops in budgets:
        budget, best = known.budget(counts, mflops)
        for name in ANSWERS:
            regret = []
            for seed in range(seeds):
                found = known.search(name.split(), budget, stream(seed, SEARCH_STREAM))
                answer = found.architectures[[found.best("flops")]]
                regret.append(best - known.accuracy[known.rows(answer)[0]])
            print(
                f"{mflops:g} M  {name:<19} {np.mean(regret):.2f} ({regret[0]:.2f})  "
                f"{len(found)} of {budget.count} networks",
                flush=True,
            )


@user_errors
def main() -> None:
    parser = Parser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--oracle", type=Path, help="JSON of true accuracies")
    source.add_argument("--ranking", type=Path, help="ranking.csv of evaluate_ranking.py")
    parser.add_argument("--column", default="score", help="of --ranking: score (default) or top1")
    parser.add_argument("--budgets", type=numbers, default=[48.0, 55.0, 63.0, 86.0])
    parser.add_argument("--seeds", type=integer(1), default=20)
    parser.add_argument("--out", type=Path, help="of --oracle: a figure")
    args = parser.parse_args()
    space = load_space("nas_bench_macro", 32, 10)
    table = load_table(space)
    if args.oracle:
        oracle = Benchmark.read(args.oracle, space, table)
        found = oracle.architectures, oracle.accuracy, oracle.accuracy
    else:
        found = read_ranking(args.ranking, args.column)
    known, counts = Known(space, table, *found), BudgetCounts(table, "flops", Equivalence(space))
    if args.oracle:
        compare_curves(known, counts, args.budgets, args.seeds, args.out)
    else:
        compare_answers(known, counts, args.budgets, args.seeds, args.column)


if __name__ == "__main__":
    main()
