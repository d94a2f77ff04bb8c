"""Compare finished searches: a table, one plot with all Pareto fronts, a CSV file.

python compare_runs.py runs/*
python compare_runs.py runs/fbnet_* --metric params --csv fbnet.csv --plot fbnet.png

Searches that differ in nothing but their seed are also shown as mean and standard deviation.
"""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from config_file.arg_config.compare_config import CompareConfig
from config_file.arg_config.fields import make_parser, take
from utils.errors import user_errors
from utils.files import write_text
from utils.plots import plot_fronts
from utils.report import text_table
from utils.run_files import COSTS, SearchRun, read_config, read_run

# what may differ between two runs that only repeat each other with another seed
NOT_THE_METHOD = {
    *("random-seed", "checkpoint", "device", "num-workers"),
    *("run-dir", "cache-dir", "data-path"),
}
DIGITS = {"MACs": 3, "params": 3, "latency": 3}  # of the table; the CSV has them all


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


def row_of(run: SearchRun, title: str) -> dict[str, Any]:
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
        "top-1": best["top1"],
        "test": best.get("test_top1"),
        **{
            metric.name: None if best.get(key) is None else best[key] * metric.scale
            for key, metric in COSTS.items()
        },
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
    for same in groups.values():
        if len({row["seed"] for row in same}) < 2:
            continue
        line = {key: same[0][key] for key in ("space", "dataset", "sampler", "strategy")}
        line["seeds"] = len(same)
        for key in ("top-1", "test", "MACs", "random best"):
            values = [row[key] for row in same if row[key] is not None]
            if len(values) == len(same):
                line[key] = f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
        lines.append(line)
    return lines


def shown(row: dict[str, Any]) -> dict[str, str]:
    """A row for people: numbers rounded, units in the values' names, empty where not measured."""
    units = {metric.name: metric.label for metric in COSTS.values()}
    texts = {}
    for key, value in row.items():
        text = "" if value is None else str(value)
        if isinstance(value, float):
            text = f"{value:.{DIGITS.get(key, 2)}f}"
        texts[units.get(key, key)] = text
    return texts


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@user_errors
def main() -> None:
    parser = make_parser(CompareConfig, __doc__, usage="%(prog)s RUN [RUN ...] [flags]")
    config = take(CompareConfig, parser.parse_args())
    runs = read_runs(config.runs)
    for run in runs:
        if config.metric not in run.history.costs or config.metric not in run.best:
            raise ValueError(f"{run.folder} has no {config.metric}; take another --metric")
    names = [run.folder.name for run in runs]
    titles = [
        name if names.count(name) == 1 else str(run.folder)
        for name, run in zip(names, runs, strict=True)
    ]
    rows = [row_of(run, title) for run, title in zip(runs, titles, strict=True)]
    print(text_table([shown(row) for row in rows]))
    if lines := over_seeds(runs, rows):
        print("\nOver seeds (mean ± standard deviation):")
        print(text_table([shown(line) for line in lines]))
    write_text(config.csv, to_csv(rows))
    metric = COSTS[config.metric]
    plot_fronts(
        config.plot,
        {
            title: (run.history.costs[config.metric] * metric.scale, run.history.top1)
            for title, run in zip(titles, runs, strict=True)
        },
        {
            title: (run.best[config.metric] * metric.scale, run.best["top1"])
            for title, run in zip(titles, runs, strict=True)
        },
        metric.label,
    )
    print(f"\nwritten: {config.csv}, {config.plot}")


if __name__ == "__main__":
    main()
