"""Compare finished searches and trained networks: tables, a plot of the Pareto fronts, a CSV file.

python compare_runs.py runs/*
python compare_runs.py runs/fbnet_* --metric params --csv fbnet.csv --plot fbnet.png

Searches are grouped by supernet and validation images: within a group their accuracies are
comparable. Those that differ in nothing but their seed are also shown as mean and deviation.
"""

from __future__ import annotations

from utils.startup import start_up

if __name__ == "__main__":  # before the imports that take seconds
    start_up()

import csv
import itertools
import json
import statistics
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from config_file.arg_config.compare_config import CompareConfig
from config_file.arg_config.fields import make_parser, take
from utils.errors import user_errors
from utils.files import atomic_path
from utils.metrics import KNOWN, METRICS, TRUE_ACCURACY, Metric, standard_error
from utils.plots import plot_fronts
from utils.report import terminal_width, text_table, without_columns
from utils.run_files import (
    SearchRun,
    TrainedNetwork,
    metrics_of,
    read_config,
    read_run,
    read_trained,
)

# what may differ between two runs that only repeat each other with another seed
NOT_THE_METHOD = {"random-seed", "checkpoint", "device", "num-workers"}
NOT_THE_METHOD |= {"run-dir", "cache-dir", "data-path"}
SAME_IN_A_GROUP = ("supernet", "space", "dataset", "sampler", "accuracy")
# columns that a narrow terminal does without, the first ones first
EXPENDABLE: tuple[str, ...] = ("candidates", "random mean", "params (M)", "budget", "seed")
EXPENDABLE += ("epochs", "dataset", "sampler", "space", "trained")
ACCURACIES = {"top-1": "validation images", "test": "test images"}  # column -> that of its images


def read_runs(folders: Sequence[Path]) -> tuple[list[SearchRun], list[TrainedNetwork]]:
    """Finished searches and trained networks among the folders; others are named and left out.

    Raises:
        ValueError: a path does not exist, a run is damaged, or none of either is among them.
    """
    searches, trained = [], []
    for folder in dict.fromkeys(path.resolve() for path in folders):
        if not folder.exists():
            raise ValueError(f"{folder} does not exist; give folders of runs, such as runs/*")
        finished = (folder / "best_architecture.yaml").exists()
        if finished and (folder / "history.csv").exists():
            searches.append(read_run(folder))
        elif finished and (folder / "weights.safetensors").exists():
            trained.append(read_trained(folder))
        elif folder.is_dir():
            print(f"note: {folder.name} holds no finished search or network and is left out")
    if not searches and not trained:
        raise ValueError(
            "none of these is the folder of a finished search or network; run search.py first"
        )
    return searches, trained


def sampler_of(run: SearchRun) -> str:
    """Training of the supernet; of a --checkpoint, as its own run's config.yaml tells."""
    if (checkpoint := run.config.get("checkpoint")) is None:
        return str(run.config.get("sample-strategy", "?"))
    try:
        return str(read_config(Path(checkpoint).parent).get("sample-strategy", "?"))
    except (OSError, ValueError):
        return "?"


def supernet_name(run: SearchRun) -> str:
    """The run that trained the supernet, or the benchmark's file."""
    scorer = run.scored_by()[0]
    return scorer.parent.name if scorer.name == "supernet.pt" else scorer.name


def costs_of(best: dict[str, Any], metrics: Sequence[Metric]) -> dict[str, float | None]:
    """Costs in their units by the metrics' names; None where one was not recorded."""
    return {m.name: best[m.key] * m.scale if m.key in best else None for m in metrics}


def row_of(run: SearchRun, title: str, metrics: Sequence[Metric]) -> dict[str, Any]:
    """One line of the table: name of the column -> value; None where it was not measured."""
    best, config = run.best, run.config
    random = run.history if config.get("search-strategy") == "random" else run.control
    return {
        "title": title,
        "supernet": supernet_name(run),
        "space": Path(str(config["search-space"])).stem,
        "dataset": config["dataset"],
        "sampler": sampler_of(run),
        "strategy": config.get("search-strategy"),
        "seed": config["random-seed"],
        "budget": run.budget_text(),
        "candidates": len(run.history),
        "accuracy": run.accuracy,
        "validation images": run.scored_by()[1],
        "test images": run.images.get("test"),
        "top-1": best["top1"],
        "test": best.get("test_top1"),
        **costs_of(best, metrics),
        "random mean": None if random is None else float(random.top1.mean()),
        "random best": None if random is None else float(random.top1.max()),
    }


def trained_row(net: TrainedNetwork, metrics: Sequence[Metric]) -> dict[str, Any]:
    """One line of the table of networks that were trained alone."""
    return {
        "title": net.folder.name,
        "trained": net.config.get("arch"),
        "dataset": net.config["dataset"],
        "epochs": net.config.get("epochs"),
        "seed": net.config["random-seed"],
        "accuracy": "trained alone",
        "validation images": net.images.get("validation"),
        "test images": net.images.get("test"),
        "top-1": net.best["top1"],
        "test": net.best.get("test_top1"),
        **costs_of(net.best, metrics),
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


def shown(
    row: dict[str, Any], metrics: Sequence[Metric], hidden: Collection[str] = ()
) -> dict[str, str]:
    """A row for people: numbers rounded, units in the columns' names, empty where not measured.

    Accuracies have their standard error where the number of images is known.

    Args:
        hidden: columns to leave out.
    """
    labels = {metric.name: metric.label for metric in metrics}

    def text(key: str, value: object) -> str:
        if isinstance(value, float):
            images = row.get(ACCURACIES.get(key, ""))
            error = f" ± {standard_error(value, images):.2f}" if images else ""
            return f"{value:.{3 if key in labels else 2}f}{error}"
        return "" if value is None else str(value)

    hidden = {*hidden, *ACCURACIES.values()}
    return {labels.get(k, k): text(k, value) for k, value in row.items() if k not in hidden}


def heading(row: dict[str, Any]) -> str:
    """Heading of a group: what its searches share."""
    images = f" of {row['validation images']:,} images" if row["validation images"] else ""
    known = row["accuracy"] == TRUE_ACCURACY
    scorer = str(row["supernet"]) if known else f"supernet {row['supernet']} ({row['sampler']})"
    return f"{scorer}: {row['space']}, {row['dataset']}; {row['accuracy']}{images}"


def comparability(runs: Sequence[SearchRun]) -> str:
    """A line that says which accuracies cannot be compared; empty if all can."""
    number = len({run.scored_by() for run in runs})
    if number < 2:
        return ""
    return (
        f"note: these are {number} different supernets or validation splits, and accuracies\n"
        "are comparable only within each; across them, train the networks and compare\n"
        "their test top-1"
    )


def grouped_table(
    runs: Sequence[SearchRun], rows: Sequence[dict[str, Any]], metrics: Sequence[Metric]
) -> str:
    """The table of the searches, those of one group together under a heading."""
    order = sorted(range(len(runs)), key=lambda i: str(runs[i].scored_by()))
    cells = [shown(rows[i], metrics, SAME_IN_A_GROUP) for i in order]
    table = text_table(without_columns(cells, EXPENDABLE, terminal_width())).splitlines()
    lines = table[:2]
    for _, group in itertools.groupby(
        zip(order, table[2:], strict=True), key=lambda pair: runs[pair[0]].scored_by()
    ):
        members = list(group)
        lines += [heading(rows[members[0][0]]), *(line for _, line in members)]
    return "\n".join(lines)


def print_tables(
    runs: Sequence[SearchRun],
    rows: Sequence[dict[str, Any]],
    trained: Sequence[dict[str, Any]],
    metrics: Sequence[Metric],
) -> None:
    """Print searches by group, their seeds, and the networks that were trained alone."""
    tables = [grouped_table(runs, rows, metrics)] if runs else []
    if note := comparability(runs):
        tables.append(note)
    if lines := over_seeds(runs, rows):
        cells = [shown(line, metrics) for line in lines]
        table = text_table(without_columns(cells, EXPENDABLE, terminal_width()))
        tables.append(f"Over seeds (mean ± standard deviation):\n{table}")
    if trained:
        cells = [shown(row, metrics, {"accuracy"}) for row in trained]
        table = text_table(without_columns(cells, EXPENDABLE, terminal_width()))
        tables.append(f"Networks trained alone (test: test top-1, comparable by dataset):\n{table}")
    print("\n\n".join(tables))


@user_errors
def main() -> None:
    parser = make_parser(CompareConfig, __doc__, usage="%(prog)s RUN [RUN ...] [flags]")
    config = take(CompareConfig, parser.parse_args())
    runs, networks = read_runs(config.runs)
    for run in runs:
        if config.metric not in run.history.costs or config.metric not in run.best:
            raise ValueError(f"{run.folder} has no {config.metric}; take another --metric")
    metrics = metrics_of(runs)
    names = [run.folder.name for run in runs]
    titles = [n if names.count(n) == 1 else str(r.folder) for n, r in zip(names, runs, strict=True)]
    rows = [row_of(run, title, metrics) for run, title in zip(runs, titles, strict=True)]
    trained = [trained_row(net, [KNOWN[key] for key in METRICS]) for net in networks]
    print_tables(runs, rows, trained, metrics)
    with atomic_path(config.csv) as path, path.open("w", encoding="utf-8", newline="") as file:
        columns = dict.fromkeys(name for row in (*rows, *trained) for name in row)
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows((*rows, *trained))
    written = [str(config.csv)]
    if runs:
        metric = next(m for m in metrics if m.key == config.metric)
        named = dict(zip(titles, runs, strict=True))
        costs = {t: r.history.costs[metric.key] * metric.scale for t, r in named.items()}
        plot_fronts(
            config.plot,
            {t: (costs[t], r.history.top1) for t, r in named.items()},
            {t: (r.best[metric.key] * metric.scale, r.best["top1"]) for t, r in named.items()},
            metric.label,
            " or ".join(dict.fromkeys(run.accuracy for run in runs)),
            "accuracies of different supernets or images" if comparability(runs) else "",
        )
        written.append(str(config.plot))
    print(f"\nwritten: {', '.join(written)}")


if __name__ == "__main__":
    main()
