"""Costs and in-budget samples per second, against the usual ways, side by side.

python -m benchmarks.lookup_and_sampling

Claims: the table costs architectures at least 10^6 times as fast as thop profiles candidates; exact
sampling gives in-budget architectures at the same rate at every budget, where drawing until one is
inside (rejection) slows down without bound. Medians of interleaved repetitions, CPU seconds of one
thread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks._common import interleaved
from lookup_table import Budget, BudgetCounts, Equivalence, Limit, build_budget
from lookup_table.builder import count_macs, load_table
from model import SearchSpace, Subnet, load_space
from model.space_file import shipped_spaces

REPEATS = 5
COSTED, SAMPLED, PROFILED, REJECTED = 2_000_000, 200_000, 2, 1_000_000


def rates(**works: Callable[[], int]) -> dict[str, float]:
    """Return units of work per CPU second of several ways, medians of runs in turns."""
    done: dict[str, int] = {}

    def run(name: str) -> None:
        done[name] = works[name]()

    seconds = interleaved({name: partial(run, name) for name in works}, REPEATS)
    return {name: done[name] / statistics.median(times) for name, times in seconds.items()}


def costing(space: SearchSpace, rng: np.random.Generator) -> None:
    """Print costs per second of the table, and of thop on candidates."""
    table = load_table(space)
    codes = rng.integers(0, space.num_choices, size=(COSTED, space.num_layers))
    codes = np.asfortranarray(codes.astype(np.uint8))

    def by_thop() -> int:
        for architecture in codes[:PROFILED]:
            count_macs(Subnet(space, architecture), 3, space.input_size)
        return PROFILED

    found = rates(table=lambda: len(table.cost(codes, "flops")), thop=by_thop)
    print(
        f"{space.name}: table {found['table'] / 1e6:.0f} M architectures/s, thop "
        f"{found['thop']:.1f}/s, ratio {found['table'] / found['thop']:.3g}"
    )


def sampling(space: SearchSpace, rng: np.random.Generator) -> None:
    """Print draws per second within budgets, and within the medians of MACs and params at once."""
    table, equivalence = load_table(space), Equivalence(space)
    counts = BudgetCounts(table, "flops", equivalence)
    lowest, highest = table.range("flops")
    targets = {"tightest": lowest, "median": counts.median, "all": highest}
    for share in (0.02, 0.1, 0.25):
        targets[f"{share:.0%} of the range"] = lowest + int(share * (highest - lowest))

    def rejection(budget: Budget) -> int:
        drawn = rng.integers(0, space.num_choices, size=(REJECTED, space.num_layers))
        return int(budget.contains(drawn).sum())

    for name, target in sorted(targets.items(), key=lambda item: item[1]):
        budget = Budget(counts, None, target)
        found = rates(
            exact=lambda budget=budget: len(budget.sample(SAMPLED, rng)),
            rejection=partial(rejection, budget),
        )
        ratio = found["exact"] / found["rejection"] if found["rejection"] else float("inf")
        print(
            f"{space.name}, {name} ({target / 1e6:.1f} M): exact {found['exact']:,.0f}/s, "
            f"rejection {found['rejection']:,.0f}/s, ratio {ratio:.3g}"
        )
    medians = {m: BudgetCounts(table, m, equivalence).median for m in ("flops", "params")}
    limits = [Limit(metric, None, median) for metric, median in medians.items()]
    budget = build_budget(table, limits, equivalence)
    found = rates(exact=lambda: len(budget.sample(SAMPLED, rng)))
    print(f"{space.name}, median MACs and params: exact {found['exact']:,.0f}/s")


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for name in shipped_spaces():
        start = time.process_time()
        load_table(load_space(name, 224, 1000))
        print(f"{name}: table built at 224 px in {time.process_time() - start:.2f} s")
    for name in shipped_spaces():
        costing(load_space(name, 32, 10), rng)
    for name in shipped_spaces():
        small = name == "nas_bench_macro"  # a space of 32 px images
        sampling(load_space(name, 32 if small else 224, 10 if small else 1000), rng)


if __name__ == "__main__":
    main()
