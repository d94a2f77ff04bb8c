"""docs/devices.md: rank correlation of MACs with the latency of each shipped FBNet table, and the
figure (docs/figures/devices.png): latency against MACs on three devices.

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

from lookup_table.builder import load_table  # noqa: E402
from lookup_table.tables import shipped_tables  # noqa: E402
from lookup_table.user_table import read_user_table  # noqa: E402
from model import load_space  # noqa: E402

SHOWN = {"pixel3": "Pixel 3", "xeon_4210r": "Xeon 4210R", "titan_rtx_1": "Titan RTX, batch 1"}
OTHER_SPACE = "pixel1_singlepath"


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
    figure, panels = plt.subplots(1, len(SHOWN), figsize=(10, 3.2), layout="constrained")
    for panel, (name, title) in zip(panels, SHOWN.items(), strict=True):
        panel.scatter(macs, latency[name], s=3, alpha=0.4, linewidths=0)
        panel.set(title=f"{title}: ρ = {rho[name]:.2f}", xlabel="M MACs", ylabel="latency (ms)")
    figure.savefig(args.out, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
