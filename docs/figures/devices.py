"""docs/devices.md: rank correlation of MACs with the latency of each shipped FBNet table; a figure
(docs/figures/devices.png), latency against MACs on three devices; and a latency budget on a Pixel 3
against the MACs budget whose networks have the same median MACs.

python docs/figures/devices.py [--networks N] [--out docs/figures/devices.png]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from scipy.stats import spearmanr

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from lookup_table import (  # noqa: E402
    BudgetCounts,
    Equivalence,
    Limit,
    LookupTable,
    build_budget,
    run_limits,
)
from lookup_table.builder import load_table  # noqa: E402
from lookup_table.knapsack import highest_sum  # noqa: E402
from lookup_table.tables import shipped_tables  # noqa: E402
from lookup_table.user_table import read_user_table  # noqa: E402
from model import SearchSpace, load_space  # noqa: E402

SHOWN = {"pixel3": "Pixel 3", "xeon_4210r": "Xeon 4210R", "titan_rtx_1": "Titan RTX, batch 1"}
OTHER_SPACE = "pixel1_singlepath"


DRAWN = 20_000  # networks of each budget


def compare_budgets(space: SearchSpace, table: LookupTable, params: float) -> None:
    """Print what 12 ms and `params` M params hold, and what a MACs budget of one median does."""
    networks, rng = Equivalence(space), np.random.default_rng(0)
    budget = build_budget(
        table, run_limits("latency", None, 12, [f"params={params}"], table), networks
    )
    drawn = budget.sample(DRAWN, rng)
    median = np.median(table.cost(drawn, "flops"))
    counts = BudgetCounts(table, "flops", networks)
    below = np.cumsum(counts.total.astype(float))  # networks of at most so many MACs
    medians = np.searchsorted(below, below / 2)  # of the networks up to each cost
    limit = counts.base + counts.unit * int(
        np.searchsorted(medians, (median - counts.base) / counts.unit)
    )
    by_macs = build_budget(table, [Limit("flops", None, limit)], networks)
    other = by_macs.sample(DRAWN, rng)
    most_macs = table.costs["flops"].astype(float)
    best, largest = (table.facts(highest_sum(most_macs, b)) for b in (budget, by_macs))
    print(f"\n12 ms and {params:.2f} M params: median {median / 1e6:.1f} M MACs, most MACs: {best}")
    print(f"at most {limit / 1e6:.1f} M MACs, the same median; most MACs: {largest}")
    ms, size = (table.cost(other, m) / 1e6 for m in ("latency", "params"))
    print(
        f"outside the device's limits: {1 - budget.contains(other).mean():.1%} (slower than 12 ms: "
        f"{(ms > 12).mean():.1%}, above {params:.2f} M params: {(size > params).mean():.1%}; up to "
        f"{ms.max():.1f} ms); within them, but above so many MACs: "
        f"{(table.cost(drawn, 'flops') > limit).mean():.1%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=2479, help="random FBNet networks")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures" / "devices.png")
    args = parser.parse_args()
    space = load_space("fbnet_hwnas", 32, 100)
    counted = load_table(space)
    rng = np.random.default_rng(0)
    networks = rng.integers(0, space.num_choices, size=(args.networks, space.num_layers))
    macs = counted.cost(networks, "flops") / 1e6
    latency = {
        name: read_user_table(name, space, counted).cost(networks, "latency") / 1e6
        for name in shipped_tables()
        if name != OTHER_SPACE
    }
    rho = {name: spearmanr(macs, ms).statistic for name, ms in latency.items()}
    print("| table | Spearman of MACs with its latency |\n|---|---|")
    for name, value in sorted(rho.items(), key=lambda item: -item[1]):
        print(f"| {name} | {value:.2f} |")
    pixel3 = read_user_table("pixel3", space, counted)
    for params in (pixel3.range("params")[1] / 1e6, 1.5):  # the first limits nothing
        compare_budgets(space, pixel3, params)
    figure, panels = plt.subplots(1, len(SHOWN), figsize=(10, 3.2), layout="constrained")
    for panel, (name, title) in zip(panels, SHOWN.items(), strict=True):
        panel.scatter(macs, latency[name], s=3, alpha=0.4, linewidths=0)
        panel.set(title=f"{title}: ρ = {rho[name]:.2f}", xlabel="M MACs", ylabel="latency (ms)")
    figure.savefig(args.out, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
