"""`report.html`: a finished search on one page that needs no other file and no network."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from model import choice_colors, describe
from model.space import SearchSpace
from utils.draw import network_figure
from utils.metrics import MILLION, number
from utils.plots import (
    PANEL,
    choices_figure,
    epochs_figure,
    inline_svg,
    pareto_figure,
    progress_figure,
)
from utils.report import command_line
from utils.run_files import read_epochs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from search_strategy.history import History
    from search_strategy.report import SearchReport

BEST_SHARE = 0.05  # of the candidates, whose choices are counted; at least BEST_FEWEST
BEST_FEWEST = 10
TOP = 10  # candidates whose choices are written out
Cell = tuple[float, str, bool]  # share, title, whether it is the choice of the network found


def report_page(report: SearchReport) -> str:
    """Render the page of a search; its log and the epochs of its training are read again."""
    history, folder = report.history, report.folder
    space = history.space
    answer = history.architectures[report.winner]
    colors = choice_colors(space)
    log = folder / "log.txt"
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,  # a name that is missing is an error
    )
    return (
        environment.get_template("report_page.html").render(
            title=folder.name,
            run=str(folder),
            intro=f"{report.title} at {space.input_size} px, {space.num_classes} classes; "
            f"seed {report.config['random_seed']}",
            tiles=_tiles(report),
            network=Markup(inline_svg(partial(network_figure, describe(space, answer)))),
            panels={name: Markup(inline_svg(draw)) for name, draw in _panels(report).items()},
            choices=Markup(_choices_over_epochs(report, colors)),
            heat_maps=_heat_maps(report, answer),
            colors=colors,
            top=_top(report),
            summary=report.rows,
            commands=_commands(report),
            config={k.replace("_", "-"): str(v) for k, v in report.config.items()},
            log=log.read_text(encoding="utf-8", errors="replace") if log.exists() else "",
            data=_table_data(history, report.winner, colors),
        )
        + "\n"
    )


def _tiles(report: SearchReport) -> dict[str, str]:
    tiles = {report.accuracy: report.percent(report.top1)}
    if (test := report.facts.get("test_top1")) is not None:
        tiles["test top-1, supernet weights"] = report.percent(test, "test")
    tiles |= report.costs()
    if report.control is not None:
        best = report.percent(report.control.top1.max())
        tiles[f"best of {len(report.control):,} random ones"] = best
    return tiles | {"candidates": f"{len(report.history):,}"}


def _epochs(report: SearchReport) -> dict[str, np.ndarray]:
    """Read the training of the supernet that was searched, as far as its run has kept it."""
    checkpoint = report.config.get("checkpoint")
    return read_epochs(report.folder if checkpoint is None else Path(str(checkpoint)).parent)


def _panels(report: SearchReport) -> dict[str, Callable[[], Figure]]:
    """Map titles to figures of what there is to show."""
    plots, epochs = report.plots(), _epochs(report)
    found, control = plots[0].found, plots[0].control  # the same candidates over each metric
    many = len(found.top1) > 1
    panels: dict[str, Callable[[], Figure]] = {}
    for plot in plots if many or control is not None else []:
        title = "Candidates" if len(plots) == 1 else f"Candidates: {plot.metric.name}"
        panels[title] = partial(pareto_figure, [plot], report.winner, report.accuracy, size=PANEL)
    if many:
        panels["Progress"] = partial(progress_figure, found, control, report.accuracy)
    groups = {
        "Supernet training": {"loss": "loss", "top1": "training top-1 (%)"},
        "Architecture parameters": {
            "entropy_share": "entropy / uniform",
            "expected_over_target": "E[cost] / target",
            "expected_cost": f"E[{report.metric.name}] ({report.metric.unit})",
        },
    }
    for title, labels in groups.items():
        curves = {label: epochs[name] for name, label in labels.items() if name in epochs}
        if curves:
            panels[title] = partial(epochs_figure, epochs["epoch"], dict(list(curves.items())[:2]))
    return panels


def _choices_over_epochs(report: SearchReport, colors: dict[str, str]) -> str:
    """Draw each layer's choice probabilities over the epochs as SVG; empty if none were learned."""
    epochs, layers = _epochs(report), report.history.space.layers
    if report.probabilities is None or f"1:{layers[0].choices[0]}" not in epochs:
        return ""
    curves = [{n: epochs[f"{i}:{n}"] for n in layer.choices} for i, layer in enumerate(layers, 1)]
    return inline_svg(partial(choices_figure, epochs["epoch"], curves, colors))


def _top(report: SearchReport) -> list[dict[str, str]]:
    """Return the candidates of the highest ranks, by the names of their columns."""
    history, table = report.history, report.history.table
    return [
        {
            "rank": str(rank),
            "index": str(i),
            "top-1 (%)": report.percent(history.top1[i]).replace(" %", ""),
            **{
                table.metric(key).label: number(history.cost(key)[i] / MILLION)
                for key in table.metrics
            },
            "choices": " ".join(history.space.decode(history.architectures[i])),
        }
        for rank, i in enumerate(history.ranking(report.metric.key)[:TOP].tolist(), 1)
    ]


def _heat_maps(
    report: SearchReport, answer: np.ndarray
) -> dict[str, tuple[str, dict[str, list[Cell | None]]]]:
    """Map titles to note and rows of the heat maps that there is something to show in."""
    history, p = report.history, report.probabilities
    space, maps = history.space, {}
    marks = "outlined: the network found; hatched: not a choice there."
    if p is not None:
        note = f"What training has learned, in percent; {marks}"
        rows = _heat_rows(space, p, answer, "probability {0:.3f}", p)
        maps["Choice probabilities"] = note, rows
    if (total := len(history)) > 1:
        number = min(total, max(BEST_FEWEST, round(BEST_SHARE * total)))
        best = history.architectures[history.ranking(report.metric.key)[:number]]
        note = f"Choices of the best candidates ({number} of {total:,}), in percent; {marks}"
        shares = _frequencies(space, best), _frequencies(space, history.architectures)
        rows = _heat_rows(
            space, shares[0], answer, "{0:.0%} of the best, {1:.0%} of all", shares[1]
        )
        maps["What the best have in common"] = note, rows
    return maps


def _frequencies(space: SearchSpace, architectures: np.ndarray) -> np.ndarray:
    """Return the shares of architectures [N, L] that take each choice of each layer, [L, C]."""
    return (architectures[:, :, None] == np.arange(space.max_choices)).mean(axis=0)


def _heat_rows(
    space: SearchSpace, shares: np.ndarray, answer: np.ndarray, text: str, other: np.ndarray
) -> dict[str, list[Cell | None]]:
    """Map each choice to a cell for each layer, None where the layer lacks the choice.

    Args:
        shares, other: [L, C], the numbers for `text`; the first is shown.
    """
    names = dict.fromkeys(name for layer in space.layers for name in layer.choices)
    rows: dict[str, list[Cell | None]] = {name: [None] * space.num_layers for name in names}
    for i, layer in enumerate(space.layers):
        for c, name in enumerate(layer.choices):
            title = f"layer {i + 1}, {name}: {text.format(shares[i, c], other[i, c])}"
            rows[name][i] = float(shares[i, c]), title, c == answer[i]
    return rows


def _table_data(history: History, winner: int, colors: dict[str, str]) -> dict[str, object]:
    """Return the values for the page's script; choices are indices into `choices`."""
    table, names = history.table, list(colors)
    metrics = [table.metric(key) for key in table.metrics]
    columns = [("top1", "top-1 (%)", 2), *((m.key, m.label, 3) for m in metrics)]
    columns += [("round", "round", 0), ("index", "index", 0)]
    costs = [history.cost(key) / MILLION for key in table.metrics]
    values = np.column_stack([history.top1, *costs, history.rounds, np.arange(len(history))])
    return {
        "columns": [{"key": k, "name": name, "digits": n} for k, name, n in columns],
        "rows": [
            {"values": row, "choices": [names.index(n) for n in history.space.decode(a)]}
            for row, a in zip(values.round(6).tolist(), history.architectures, strict=True)
        ],
        "choices": names,
        "colors": list(colors.values()),
        "winner": winner,
    }


def _commands(report: SearchReport) -> dict[str, str]:
    """Map further steps to their commands."""
    folder, config = report.folder, report.config
    commands = {"Repeat this run": command_line("search.py", "--config", f"{folder}/config.yaml")}
    if config.get("oracle") is None:
        supernet = str(config.get("checkpoint") or folder / "supernet.pt")
        commands["Search its supernet again"] = command_line("search.py", "--checkpoint", supernet)
    count = "-m", "lookup_table", "--arch", str(folder)
    commands["Count its MACs and parameters"] = command_line(*count)
    curves = f"{folder.name}:{folder}/tensorboard"  # --logdir_spec takes NAME:PATH
    commands["See the curves"] = shlex.join(["tensorboard", "--logdir_spec", curves])
    return commands | report.next_steps()
