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

import numpy as np
import torch

from lookup_table import Budget, BudgetCounts, Equivalence, Limit, build_budget
from lookup_table.builder import count_macs, load_table
from model import SearchSpace, Subnet, load_space
from model.space_file import shipped_spaces

REPEATS = 5
COSTED, SAMPLED, PROFILED, REJECTED = 2_000_000, 200_000, 2, 1_000_000


def rate(work: Callable[[], int]) -> float:
    """Units of work per CPU second."""
    start = time.process_time()
    done = work()
    return done / max(time.process_time() - start, 1e-9)


def medians(**works: Callable[[], int]) -> dict[str, float]:
    """Rates of several ways, run in turns."""
    rates: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(REPEATS):
        for name, work in works.items():
            rates[name].append(rate(work))
    return {name: statistics.median(values) for name, values in rates.items()}


def costing(space: SearchSpace, rng: np.random.Generator) -> None:
    table = load_table(space)
    codes = rng.integers(0, space.num_choices, size=(COSTED, space.num_layers))
    codes = np.asfortranarray(codes.astype(np.uint8))

    def by_thop() -> int:
        for architecture in codes[:PROFILED]:
            count_macs(Subnet(space, architecture), 3, space.input_size)
        return PROFILED

    rates = medians(
        table=lambda: len(table.cost(codes, "flops")),
        thop=by_thop,
    )
    print(
        f"{space.name}: table {rates['table'] / 1e6:.0f} M architectures/s, thop "
        f"{rates['thop']:.1f}/s, ratio {rates['table'] / rates['thop']:.3g}"
    )


def rejection(budget: Budget, space: SearchSpace, rng: np.random.Generator) -> int:
    drawn = rng.integers(0, space.num_choices, size=(REJECTED, space.num_layers))
    return int(budget.contains(drawn).sum())


def sampling(space: SearchSpace, rng: np.random.Generator) -> None:
    table = load_table(space)
    counts = BudgetCounts(table, "flops", Equivalence(space))
    lowest, highest = table.range("flops")
    targets = {"tightest": lowest, "median": counts.median, "all": highest}
    for share in (0.02, 0.1, 0.25):
        targets[f"{share:.0%} of the range"] = lowest + int(share * (highest - lowest))
    for name, target in sorted(targets.items(), key=lambda item: item[1]):
        budget = Budget(counts, None, target)
        rates = medians(
            exact=lambda budget=budget: len(budget.sample(SAMPLED, rng)),
            rejection=lambda budget=budget: rejection(budget, space, rng),
        )
        ratio = rates["exact"] / rates["rejection"] if rates["rejection"] else float("inf")
        print(
            f"{space.name}, {name} ({target / 1e6:.1f} M): exact {rates['exact']:,.0f}/s, "
            f"rejection {rates['rejection']:,.0f}/s, ratio {ratio:.3g}"
        )


def several_limits(space: SearchSpace, rng: np.random.Generator) -> None:
    """Draws within the medians of MACs and parameters at once."""
    table, equivalence = load_table(space), Equivalence(space)
    limits = [
        Limit(metric, None, BudgetCounts(table, metric, equivalence).median)
        for metric in ("flops", "params")
    ]
    budget = build_budget(table, limits, equivalence)
    rates = medians(exact=lambda: len(budget.sample(SAMPLED, rng)))
    print(f"{space.name}, median MACs and params: exact {rates['exact']:,.0f}/s")


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for name in shipped_spaces():
        start = time.process_time()
        space = load_space(name, 224, 1000)
        load_table(space)
        print(f"{name}: table built at 224 px in {time.process_time() - start:.2f} s")
    for name in shipped_spaces():
        costing(load_space(name, 32, 10), rng)
    for name in shipped_spaces():
        small = name == "nas_bench_macro"  # a space of 32 px images
        space = load_space(name, 32 if small else 224, 10 if small else 1000)
        sampling(space, rng)
        several_limits(space, rng)


if __name__ == "__main__":
    main()
