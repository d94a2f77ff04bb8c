"""Folders as a finished search leaves them, with made-up accuracies, without a search."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import yaml

from lookup_table import LookupTable
from model import SearchSpace


def fake_run(
    folder: Path,
    space: SearchSpace,
    table: LookupTable,
    seed: int = 0,
    metric: str = "",  # that the run has besides, in mJ if it is no latency
    **config: object,
) -> Path:
    """60 candidates in three rounds with random top-1; the control is the same candidates."""
    rng = np.random.default_rng(seed)
    architectures = rng.integers(0, space.num_choices, (60, space.num_layers))
    top1 = rng.uniform(50, 90, 60).round(2)
    costs = {m: table.cost(architectures, m).tolist() for m in ("flops", "params")}
    folder.mkdir(parents=True)
    if metric:
        costs[metric] = [0.5 + i / 100 for i in range(60)]
        unit = "ms" if metric == "latency" else "mJ"
        (folder / "lookup_table.yaml").write_text(yaml.safe_dump({"metric": metric, "unit": unit}))
    for name in ("history.csv", "random_control.csv"):
        with (folder / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["index", "round", "architecture", *costs, "top1"])
            for i, a in enumerate(architectures):
                row = [cost[i] for cost in costs.values()]
                writer.writerow([i, i // 20, " ".join(space.decode(a)), *row, top1[i]])
    best = int(top1.argmax())
    facts = {"choices": space.decode(architectures[best]), "top1": float(top1[best])}
    facts |= {m: cost[best] for m, cost in costs.items()} | {"test_top1": 71.25, "target_hc": 0.5}
    (folder / "best_architecture.yaml").write_text(yaml.safe_dump(facts))
    flags = {"search-space": "tiny", "dataset": "digits", "random-seed": seed, "widths": None}
    flags |= {"search-strategy": "evolution", "sample-strategy": "uniform"}
    flags |= {name.replace("_", "-"): value for name, value in config.items()}
    (folder / "config.yaml").write_text(yaml.safe_dump(flags))
    return folder


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
