"""Compare finished searches: a table, one plot with all Pareto fronts, a CSV file.

python compare_runs.py runs/*
python compare_runs.py runs/fbnet_* --metric params --csv fbnet.csv --plot fbnet.png

Searches that differ in nothing but their seed are also shown as mean and standard deviation.
"""

from __future__ import annotations

from utils.startup import start_up

if __name__ == "__main__":  # before the imports that take seconds
    start_up()

import csv
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from config_file.arg_config.compare_config import CompareConfig
from config_file.arg_config.fields import make_parser, take
from utils.errors import user_errors
from utils.files import atomic_path
from utils.metrics import Metric
from utils.plots import plot_fronts
from utils.report import text_table
from utils.run_files import SearchRun, metrics_of, read_config, read_run

# what may differ between two runs that only repeat each other with another seed
NOT_THE_METHOD = {"random-seed", "checkpoint", "device", "num-workers"}
NOT_THE_METHOD |= {"run-dir", "cache-dir", "data-path"}


def read_runs(folders: Sequence[Path]) -> list[SearchRun]:
    """The finished searches among the folders; what else is there is named and left out.

    Raises:
        ValueError: a path does not exist, a run is damaged, or no search is among them.
    """
    runs = []
    for folder in dict.fromkeys(path.resolve() for path in folders):
        if not folder.exists():
            raise ValueError(f"{folder} does not exist; give folders of runs, such as runs/*")
        if (folder / "history.csv").exists() and (folder / "best_architecture.yaml").exists():
            runs.append(read_run(folder))
        elif folder.is_dir():
            print(f"note: {folder.name} holds no finished search and is left out")
    if not runs:
        raise ValueError("none of these is the folder of a finished search; run search.py first")
    return runs


def sampler_of(run: SearchRun) -> str:
    """How the supernet was trained; for a --checkpoint that its own run's config.yaml tells."""
    if (checkpoint := run.config.get("checkpoint")) is None:
        return str(run.config.get("sample-strategy", "?"))
    try:
        return str(read_config(Path(checkpoint).parent).get("sample-strategy", "?"))
    except (OSError, ValueError):
        return "?"


def row_of(run: SearchRun, title: str, metrics: Sequence[Metric]) -> dict[str, Any]:
    """One line of the table: name of the column -> value; None where it was not measured."""
    best, config = run.best, run.config
    random = run.history if config.get("search-strategy") == "random" else run.control
    return {
        "title": title,
        "space": Path(str(config["search-space"])).stem,
        "dataset": config["dataset"],
        "sampler": sampler_of(run),
        "strategy": config.get("search-strategy"),
        "seed": config["random-seed"],
        "candidates": len(run.history),
        "accuracy": run.accuracy,
        "top-1": best["top1"],
        "test": best.get("test_top1"),
        **{m.name: best[m.key] * m.scale if m.key in best else None for m in metrics},
        "random mean": None if random is None else float(random.top1.mean()),
        "random best": None if random is None else float(random.top1.max()),
    }


def over_seeds(runs: Sequence[SearchRun], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean ± standard deviation of the runs that differ in their seed alone."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for run, row in zip(runs, rows, strict=True):
        method = {k: v for k, v in run.config.items() if k not in NOT_THE_METHOD}
        method["sampler"] = row["sampler"]
        groups.setdefault(json.dumps(method, sort_keys=True, default=str), []).append(row)
    lines = []
    for same in (g for g in groups.values() if len({row["seed"] for row in g}) > 1):
        line = {key: same[0][key] for key in ("space", "dataset", "sampler", "strategy")}
        line["seeds"] = len(same)
        for key in ("top-1", "test", "MACs", "random best"):
            values = [row[key] for row in same if row[key] is not None]
            if len(values) == len(same):
                line[key] = f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
        lines.append(line)
    return lines


def shown(row: dict[str, Any], metrics: Sequence[Metric]) -> dict[str, str]:
    """A row for people: numbers rounded, units in the columns' names, empty where not measured."""
    labels = {metric.name: metric.label for metric in metrics}

    def text(key: str, value: object) -> str:
        if isinstance(value, float):
            return f"{value:.{3 if key in labels else 2}f}"
        return "" if value is None else str(value)

    return {labels.get(key, key): text(key, value) for key, value in row.items()}


@user_errors
def main() -> None:
    parser = make_parser(CompareConfig, __doc__, usage="%(prog)s RUN [RUN ...] [flags]")
    config = take(CompareConfig, parser.parse_args())
    runs = read_runs(config.runs)
    for run in runs:
        if config.metric not in run.history.costs or config.metric not in run.best:
            raise ValueError(f"{run.folder} has no {config.metric}; take another --metric")
    metrics = metrics_of(runs)
    metric = next(m for m in metrics if m.key == config.metric)
    names = [run.folder.name for run in runs]
    titles = [n if names.count(n) == 1 else str(r.folder) for n, r in zip(names, runs, strict=True)]
    rows = [row_of(run, title, metrics) for run, title in zip(runs, titles, strict=True)]
    print(text_table([shown(row, metrics) for row in rows]))
    if lines := over_seeds(runs, rows):
        print("\nOver seeds (mean ± standard deviation):")
        print(text_table([shown(line, metrics) for line in lines]))
    with atomic_path(config.csv) as path, path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    named = dict(zip(titles, runs, strict=True))
    plot_fronts(
        config.plot,
        {t: (r.history.costs[metric.key] * metric.scale, r.history.top1) for t, r in named.items()},
        {t: (r.best[metric.key] * metric.scale, r.best["top1"]) for t, r in named.items()},
        metric.label,
        " or ".join(dict.fromkeys(run.accuracy for run in runs)),
    )
    print(f"\nwritten: {config.csv}, {config.plot}")


if __name__ == "__main__":
    main()
