"""Regret of search strategies over evaluations, on true accuracies.

python -m benchmarks.oracle_regret --oracle nas_bench_macro.json [--out docs/figures/regret.png]

Regret: the best true accuracy within the budget minus the best found, after so many evaluations;
mean over seeds. Claim: at equal evaluations evolution's is lower than random search's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from config_file.arg_config.fields import Parser
from lookup_table import Budget, BudgetCounts, Equivalence
from lookup_table.builder import load_table
from model import load_space
from search_strategy.benchmark import Benchmark
from search_strategy.evolution import EvolutionConfig, EvolutionSearch
from search_strategy.pareto import ParetoConfig, ParetoSearch
from search_strategy.random_search import RandomConfig, RandomSearch
from utils.files import atomic_path

BUDGETS = (48.0, 55.0, 63.0, 86.0)  # M MACs
POPULATION, PARENTS, GENERATIONS = 20, 8, 15
EVALUATIONS = POPULATION * GENERATIONS
COLORS = {"random": "tab:gray", "evolution": "tab:blue", "aging": "tab:orange", "pareto": "tab:red"}


def strategy(name: str, budget: Budget, seed: int):
    rng = np.random.default_rng(seed)
    if name == "random":
        return RandomSearch(RandomConfig(random_iteration=EVALUATIONS), budget, rng)
    if name == "pareto":
        return ParetoSearch(
            ParetoConfig(objectives=("flops",), generation_num=GENERATIONS, population=POPULATION),
            budget,
            rng,
        )
    aging = 3 if name == "aging" else 0
    return EvolutionSearch(
        EvolutionConfig(
            generation_num=GENERATIONS, population=POPULATION, parent_num=PARENTS, aging=aging
        ),
        budget,
        rng,
    )


def regret_curve(name: str, budget: Budget, oracle: Benchmark, seed: int) -> np.ndarray:
    """Regret in points after 1, 2, ... EVALUATIONS evaluations."""
    search, found = strategy(name, budget, seed), []
    while len(asked := search.ask()):
        scores = oracle.score(asked)[:, 0]
        search.tell(asked, scores)
        found += scores.tolist()
    best = oracle.score(budget.enumerate()).max()
    found += [found[-1]] * (EVALUATIONS - len(found))  # everything inside has been seen
    return best - np.maximum.accumulate(found[:EVALUATIONS])


def plot(path: Path, curves: dict[float, dict[str, np.ndarray]], seeds: int) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey=True).ravel()
    x = np.arange(1, EVALUATIONS + 1)
    for panel, (mflops, by_name) in zip(axes, curves.items(), strict=True):
        for name, values in by_name.items():
            mean = values.mean(0)
            error = values.std(0, ddof=1) / np.sqrt(seeds)
            panel.plot(x, mean, color=COLORS[name], label=name)
            panel.fill_between(x, mean - error, mean + error, color=COLORS[name], alpha=0.2, lw=0)
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


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--oracle", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    space = load_space("nas_bench_macro", 32, 10)
    table = load_table(space)
    oracle = Benchmark.read(args.oracle, space, table)
    counts = BudgetCounts(table, "flops", Equivalence(space))
    curves: dict[float, dict[str, np.ndarray]] = {}
    marks = (50, 100, 200, EVALUATIONS)
    print(f"mean regret over {args.seeds} seeds after {marks} evaluations")
    for mflops in BUDGETS:
        budget = Budget(counts, None, round(mflops * 1e6), oracle.architectures)
        curves[mflops] = {
            name: np.array([regret_curve(name, budget, oracle, s) for s in range(args.seeds)])
            for name in COLORS
        }
        for name, values in curves[mflops].items():
            regrets = "  ".join(f"{values[:, mark - 1].mean():.3f}" for mark in marks)
            print(f"{mflops:g} M ({budget.count} networks known)  {name:<10} {regrets}")
    if args.out:
        plot(args.out, curves, args.seeds)


if __name__ == "__main__":
    main()
