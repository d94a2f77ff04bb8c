"""`report.html`: a finished search on one page that needs no other file and no network."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from model import choice_colors, describe
from model.space import SearchSpace
from utils.draw import network_figure
from utils.metrics import MILLION
from utils.plots import PANEL, inline_svg, progress_figure

if TYPE_CHECKING:
    from search_strategy.history import History
    from search_strategy.report import SearchReport

BEST_SHARE = 0.05  # of the candidates, whose choices are counted; at least BEST_FEWEST
BEST_FEWEST = 10
Cell = tuple[float, str, bool]  # share, title, whether it is the choice of the network found


def report_page(report: SearchReport) -> str:
    """The page of a search; of its folder nothing but log.txt is read."""
    history, folder = report.history, report.folder
    space = history.space
    answer = history.architectures[report.winner]
    colors = choice_colors(space)
    found, control = report.points()
    many = len(history) > 1
    panels = {}
    if many or control is not None:
        panels["Candidates"] = inline_svg(partial(report.pareto_figure, PANEL))
    if many:
        panels["Progress"] = inline_svg(partial(progress_figure, found, control, report.accuracy))
    log = folder / "log.txt"
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return (
        environment.get_template("report_page.html").render(
            title=folder.name,
            intro=f"{report.title} at {space.input_size} px, {space.num_classes} classes; "
            f"seed {report.config['random_seed']}",
            tiles=_tiles(report),
            network=Markup(inline_svg(partial(network_figure, describe(space, answer)))),
            panels={name: Markup(svg) for name, svg in panels.items()},
            heat_maps=_heat_maps(report, answer),
            colors=colors,
            summary=report.rows,
            commands=_commands(report),
            config={k.replace("_", "-"): str(v) for k, v in report.config.items()},
            log=log.read_text(encoding="utf-8", errors="replace") if log.exists() else "",
            data=_table_data(history, report.winner, colors),
        )
        + "\n"
    )


def _tiles(report: SearchReport) -> dict[str, str]:
    tiles = {report.accuracy: f"{report.top1:.2f} %"}
    if (test := report.facts.get("test_top1")) is not None:
        tiles["test top-1, supernet weights"] = f"{test:.2f} %"
    tiles |= report.costs()
    if report.control is not None:
        best = report.control.top1.max()
        tiles[f"best of {len(report.control):,} random ones"] = f"{best:.2f} %"
    return tiles | {"candidates": f"{len(report.history):,}"}


def _heat_maps(
    report: SearchReport, answer: np.ndarray
) -> dict[str, tuple[str, dict[str, list[Cell | None]]]]:
    """Title -> note and rows of the heat maps that there is something to show in."""
    history, p = report.history, report.probabilities
    space, maps = history.space, {}
    marks = "outlined: the network found; hatched: not a choice there."
    if p is not None:
        note = f"What training has learned, in percent; {marks}"
        rows = _heat_rows(space, p, answer, "probability {0:.3f}", p)
        maps["Choice probabilities"] = note, rows
    if (total := len(history)) > 1:
        number = min(total, max(BEST_FEWEST, round(BEST_SHARE * total)))
        best = history.architectures[np.argsort(-history.top1, kind="stable")[:number]]
        note = f"Choices of the best candidates ({number} of {total:,}), in percent; {marks}"
        shares = _frequencies(space, best), _frequencies(space, history.architectures)
        rows = _heat_rows(
            space, shares[0], answer, "{0:.0%} of the best, {1:.0%} of all", shares[1]
        )
        maps["What the best have in common"] = note, rows
    return maps


def _frequencies(space: SearchSpace, architectures: np.ndarray) -> np.ndarray:
    """Shares of architectures [N, L] that take each choice of each layer, [L, C]."""
    return (architectures[:, :, None] == np.arange(space.max_choices)).mean(axis=0)


def _heat_rows(
    space: SearchSpace, shares: np.ndarray, answer: np.ndarray, text: str, other: np.ndarray
) -> dict[str, list[Cell | None]]:
    """Choice -> a cell for each layer, None where the layer lacks the choice.

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
    """What the script needs; choices are indices into `choices`."""
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
    """What one may do next -> the command."""
    folder, config = report.folder, report.config
    best = str(folder / "best_architecture.yaml")
    commands = {"Repeat this run": ["search.py", "--config", str(folder / "config.yaml")]}
    train = ["train_subnet.py", "--arch", best, "--dataset", str(config["dataset"])]
    if config.get("oracle") is None:
        supernet = str(config.get("checkpoint") or folder / "supernet.pt")
        commands["Search its supernet again"] = ["search.py", "--checkpoint", supernet]
        train += ["--init-from", supernet]
    commands["Train the network found"] = train
    commands["Count its MACs and parameters"] = ["-m", "lookup_table", "--arch", best]
    lines = {text: shlex.join(["python", *words]) for text, words in commands.items()}
    return lines | {"See the curves": shlex.join(["tensorboard", "--logdir", str(folder.parent)])}
