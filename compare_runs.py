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
import json
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from config_file.arg_config.fields import flag, make_parser, take
from config_file.arg_config.types import path
from utils.errors import user_errors
from utils.files import atomic_path
from utils.metrics import KNOWN, METRICS, TRUE_ACCURACY, Metric, standard_error
from utils.plots import plot_fronts
from utils.report import text_table
from utils.run_files import Run, SearchRun, metrics_of, read_config, read_run, read_trained

Row = dict[str, Any]  # name of a column -> value; None where it was not measured

# what may differ between two runs that only repeat each other with another seed
NOT_THE_METHOD = {"random-seed", "checkpoint", "device", "num-workers", "threads"}
NOT_THE_METHOD |= {"run-dir", "cache-dir", "data-path"}
SAME_IN_A_GROUP = ("supernet", "space", "dataset", "sampler", "accuracy")
# columns that a narrow terminal does without, the first ones first
EXPENDABLE: tuple[str, ...] = ("candidates", "random mean", "params (M)", "budget", "seed")
EXPENDABLE += ("epochs", "dataset", "sampler", "space", "trained")
ACCURACIES = {"top-1": "validation images", "test": "test images"}  # column -> that of its images


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    title: ClassVar[str] = "options"

    runs: tuple[Path, ...] = flag(
        (), path, "folders of runs; runs/* takes all", "RUN", nargs="+", positional=True
    )
    metric: str = flag(
        "flops",
        str,
        "cost on the plot's x axis: flops, params, latency, or another that the runs recorded",
    )
    csv: Path = flag(Path("comparison.csv"), path, "table to write")
    plot: Path = flag(Path("comparison.png"), path, "plot to write")


def read_runs(folders: Sequence[Path]) -> tuple[list[SearchRun], list[Run]]:
    """Read finished searches and trained networks; name other folders and leave them out.

    Raises:
        ValueError: a path does not exist, a run is damaged, or none of either is among them.
    """
    searches, trained = [], []
    for folder in dict.fromkeys(folder.resolve() for folder in folders):  # each once
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
    """Return the supernet's sampler; of a --checkpoint, as its own run's config.yaml tells."""
    config, checkpoint = run.config, run.config.get("checkpoint")
    try:
        config = config if checkpoint is None else read_config(Path(checkpoint).parent)
    except (OSError, ValueError):
        return "?"
    return str(config.get("sample-strategy", "?"))


def costs_of(best: Row, metrics: Sequence[Metric]) -> dict[str, float | None]:
    """Return costs in their units by the metrics' names; None where one was not recorded."""
    return {m.name: best[m.key] * m.scale if m.key in best else None for m in metrics}


def search_row(run: SearchRun, title: str, metrics: Sequence[Metric]) -> Row:
    """Return a search's line of the table."""
    best, config = run.best, run.config
    scorer, images, _ = run.scored_by()
    random = run.history if config.get("search-strategy") == "random" else run.control
    return {
        "title": title,
        "supernet": scorer.parent.name if scorer.name == "supernet.pt" else scorer.name,
        "space": Path(str(config["search-space"])).stem,
        "dataset": config["dataset"],
        "sampler": sampler_of(run),
        "strategy": config.get("search-strategy"),
        "seed": config["random-seed"],
        "budget": run.budget_text(),
        "candidates": len(run.history),
        "accuracy": run.accuracy,
        "validation images": images,
        "test images": run.images.get("test"),
        "top-1": best["top1"],
        "test": best.get("test_top1"),
        **costs_of(best, metrics),
        "random mean": None if random is None else float(random.top1.mean()),
        "random best": None if random is None else float(random.top1.max()),
    }


def trained_row(net: Run) -> Row:
    """Return the line of a network that was trained alone."""
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
        **costs_of(net.best, [KNOWN[key] for key in METRICS]),
    }


def over_seeds(runs: Sequence[SearchRun], rows: Sequence[Row]) -> list[Row]:
    """Return mean ± standard deviation of the runs that differ in their seed alone."""
    groups: dict[str, list[Row]] = {}
    for run, row in zip(runs, rows, strict=True):
        # older runs lack flags of today, or say false for what is left open now
        method = {k: v for k, v in run.config.items() if v and k not in NOT_THE_METHOD}
        method["sampler"] = row["sampler"]  # of the --checkpoint, which is left out above
        groups.setdefault(json.dumps(method, sort_keys=True, default=str), []).append(row)
    lines = []
    for same in (g for g in groups.values() if len({row["seed"] for row in g}) > 1):
        line = {key: same[0][key] for key in ("space", "dataset", "sampler", "strategy")}
        line["seeds"] = len(same)
        for key in ("top-1", "test", "MACs", "random best"):
            values = [row[key] for row in same if row[key] is not None]
            if len(values) == len(same):  # measured in every run
                line[key] = f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
        lines.append(line)
    return lines


def shown(rows: Sequence[Row], metrics: Sequence[Metric], hidden: Collection[str] = ()) -> str:
    """Format rows for people: rounded, units in the heads, as many columns as the terminal holds.

    Accuracies have their standard error where the number of images is known.
    """
    labels = {metric.name: metric.label for metric in metrics}
    hidden = {*hidden, *ACCURACIES.values()}

    def text(row: Row, key: str) -> str:
        value, images = row[key], row.get(ACCURACIES.get(key, ""))
        if isinstance(value, float):  # counts and seeds are exact
            error = f" ± {standard_error(value, images):.2f}" if images else ""
            return f"{value:.{3 if key in labels else 2}f}{error}"
        return "" if value is None else str(value)

    cells = [{labels.get(k, k): text(row, k) for k in row if k not in hidden} for row in rows]
    return text_table(cells, EXPENDABLE)


def heading(row: Row) -> str:
    """Return what the searches of a group share."""
    images = f" of {row['validation images']:,} images" if row["validation images"] else ""
    known = row["accuracy"] == TRUE_ACCURACY
    scorer = str(row["supernet"]) if known else f"supernet {row['supernet']} ({row['sampler']})"
    return f"{scorer}: {row['space']}, {row['dataset']}; {row['accuracy']}{images}"


def comparability(runs: Sequence[SearchRun]) -> str:
    """Say which accuracies cannot be compared; nothing if all can."""
    number = len({run.scored_by() for run in runs})
    if number < 2:
        return ""
    return (
        f"note: these are {number} different supernets or validation splits, and accuracies\n"
        "are comparable only within each; across them, train the networks and compare\n"
        "their test top-1"
    )


def grouped_table(runs: Sequence[SearchRun], rows: Sequence[Row], metrics: Sequence[Metric]) -> str:
    """Return the table of the searches, those of one supernet and split under a heading."""
    order = sorted(range(len(runs)), key=lambda i: str(runs[i].scored_by()))  # groups together
    names, rule, *body = shown([rows[i] for i in order], metrics, SAME_IN_A_GROUP).splitlines()
    lines, group = [names, rule], None
    for i, line in zip(order, body, strict=True):
        if runs[i].scored_by() != group:
            group = runs[i].scored_by()
            lines.append(heading(rows[i]))
        lines.append(line)
    return "\n".join(lines)


def print_tables(
    runs: Sequence[SearchRun],
    rows: Sequence[Row],
    trained: Sequence[Row],
    metrics: Sequence[Metric],
) -> None:
    """Print searches by group, their seeds, and the networks that were trained alone."""
    tables = [grouped_table(runs, rows, metrics)] if runs else []
    if note := comparability(runs):
        tables.append(note)
    if lines := over_seeds(runs, rows):
        tables.append(f"Over seeds (mean ± standard deviation):\n{shown(lines, metrics)}")
    if trained:
        table = shown(trained, metrics, {"accuracy"})
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
    # names that are not unique become whole paths
    titles = [n if names.count(n) == 1 else str(r.folder) for n, r in zip(names, runs, strict=True)]
    rows = [search_row(run, title, metrics) for run, title in zip(runs, titles, strict=True)]
    trained = [trained_row(net) for net in networks]
    print_tables(runs, rows, trained, metrics)
    with atomic_path(config.csv) as path, path.open("w", encoding="utf-8", newline="") as file:
        columns = dict.fromkeys(name for row in (*rows, *trained) for name in row)
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows((*rows, *trained))
    written = [str(config.csv)]
    if runs:  # trained networks alone have no front
        x = next(m for m in metrics if m.key == config.metric)
        named = dict(zip(titles, runs, strict=True))
        plot_fronts(
            config.plot,
            {t: (r.history.costs[x.key] * x.scale, r.history.top1) for t, r in named.items()},
            {t: (r.best[x.key] * x.scale, r.best["top1"]) for t, r in named.items()},
            x.label,
            " or ".join(dict.fromkeys(run.accuracy for run in runs)),
            "accuracies of different supernets or images" if comparability(runs) else "",
        )
        written.append(str(config.plot))
    print(f"\nwritten: {', '.join(written)}")


if __name__ == "__main__":
    main()
