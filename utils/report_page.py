"""`report.html`: a finished search on one page that needs no other file and no network."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from utils.files import write_text
from utils.plots import pareto_front
from utils.report_figures import (
    Plot,
    architecture_svg,
    choice_color,
    color_key,
    heat_map,
    round_color,
)
from utils.run_files import COSTS, SearchRun, read_run

HERE = Path(__file__).resolve().parent
BEST_SHARE = 0.05  # of the candidates, whose choices are counted; at least BEST_FEWEST
BEST_FEWEST = 10
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def write_report(folder: Path, space: dict[str, Any], summary: dict[str, str]) -> None:
    """Write `folder/report.html` from the files of a finished search.

    Args:
        space: the search space as plain data (`dataclasses.asdict`): `widths`, `input_size`,
            `num_classes`, `stem_stride`, `first_block` and `layers`.
        summary: the rows of the summary that the terminal shows.
    """
    write_text(folder / "report.html", report_html(read_run(folder), space, summary))


def report_html(run: SearchRun, space: dict[str, Any], summary: dict[str, str]) -> str:
    """The page; it depends on nothing but its arguments and the run's log.txt."""
    title, config = run.folder.name, run.config
    strategy = str(config.get("search-strategy", "search"))
    intro = (
        f"{strategy} search of {config['search-space']} on {config['dataset']} at "
        f"{space['input_size']} px, {space['num_classes']} classes; seed {config['random-seed']}"
    )
    layers = space["layers"]
    names = list(dict.fromkeys(name for layer in layers for name in layer["choices"]))
    body = [
        f"<header><h1>{escape(title)}</h1><p>{escape(intro)}</p></header><main>",
        _tiles(run),
        _section(
            "The network found",
            "A block is as tall as its channels (in, hidden, out; square-root scale) and as broad "
            "as its kernel; dashed: skipped. Below: choice, stride, output channels.",
            architecture_svg(space, run.best["choices"]),
        ),
        _section("Candidates", "", _pareto(run)),
        _section("Progress", "", _progress(run)),
        _choices(run, layers),
        _section("All candidates", "", _table(run, names)),
        _section("Summary", "", _two_columns(summary)),
        _section("Commands", "", _commands(run)),
        _folded("Configuration", _two_columns({k: str(v) for k, v in config.items()})),
        _log(run.folder / "log.txt"),
        "</main>",
    ]
    return _page(title, "".join(body), _data(run, names))


def _page(title: str, body: str, data: dict[str, Any]) -> str:
    css = (HERE / "report_page.css").read_text(encoding="utf-8")
    script = (HERE / "report_page.js").read_text(encoding="utf-8")
    # in a script element only "</" could end it early; the other two keep it valid HTML and JS
    text = json.dumps(data, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)} · OneShot NAS</title>'
        f"<style>\n{css}</style></head>\n<body>{body}"
        f'<script type="application/json" id="data">{text}</script>'
        f"<script>\n{script}</script></body></html>\n"
    )


def _section(title: str, note: str, content: str) -> str:
    note = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{note}{content}</section>"


def _folded(title: str, content: str) -> str:
    summary = f"<summary>{escape(title)}</summary>"
    return f"<section><details>{summary}{content}</details></section>"


def _two_columns(rows: dict[str, str]) -> str:
    lines = (f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in rows.items())
    return f'<table class="config">{"".join(lines)}</table>'


def _tiles(run: SearchRun) -> str:
    best = run.best
    tiles = {"validation top-1": f"{best['top1']:.2f} %"}
    if best.get("test_top1") is not None:
        tiles["test top-1, supernet weights"] = f"{best['test_top1']:.2f} %"
    tiles |= {m.name: m.show(best[k]) for k, m in COSTS.items() if best.get(k) is not None}
    if run.control:
        tiles[f"best of {len(run.control):,} random ones"] = f"{run.control.top1.max():.2f} %"
    tiles["candidates"] = f"{len(run.history):,}"
    items = (
        f'<div class="tile"><b>{escape(v)}</b><span>{k}</span></div>' for k, v in tiles.items()
    )
    return f'<div class="tiles">{"".join(items)}</div>'


def _cost_name(run: SearchRun) -> str:
    """The cost on the x axis: what the budget limits, if it was recorded."""
    name = str(run.config.get("info-metric", "flops"))
    return name if name in run.history.costs and run.best.get(name) is not None else "flops"


def _pareto(run: SearchRun) -> str:
    name = _cost_name(run)
    metric, plot = COSTS[name], _pareto_axes(run)
    cost, top1, rounds = (
        run.history.costs[name] * metric.scale,
        run.history.top1,
        run.history.rounds,
    )
    if run.control:
        random = run.control
        plot.dots(random.costs[name] * metric.scale, random.top1, "var(--soft)", faint=True)
    for number in np.unique(rounds).tolist():
        chosen = rounds == number
        plot.dots(cost[chosen], top1[chosen], round_color(number, int(rounds.max())))
    front = pareto_front(cost, top1)
    plot.steps(cost[front], top1[front], "front")
    for key in ("target_hc", "min_hc"):
        if isinstance(bound := run.best.get(key), (int, float)):
            plot.bound(bound)  # in the units of the axis: millions or milliseconds
    plot.star(run.best[name] * metric.scale, run.best["top1"], "the network found")
    last = int(rounds.max())
    key = [("★", "", "the network found"), ("━", "color:var(--front)", "Pareto front")]
    key += [("┊", "", "budget")] if run.best.get("target_hc") is not None else []
    key += [("●", "opacity:.4", "random candidates")] if run.control else []
    key += [("●", f"color:{round_color(0, last)}", "first round")] if last else []
    key += [("●", f"color:{round_color(last, last)}", "last round")] if last else []
    items = "".join(f'<span><b style="{css}">{sign}</b>{text}</span>' for sign, css, text in key)
    return (
        plot.html(f"top-1 over {metric.name} of {len(top1)} candidates")
        + f'<p class="key">{items}</p><p class="hover" id="hover">Point at a candidate.</p>'
    )


def _pareto_axes(run: SearchRun) -> Plot:
    name = _cost_name(run)
    sources = [run.history, run.control] if run.control else [run.history]
    cost = np.concatenate([s.costs[name] for s in sources] + [[run.best[name]]])
    cost = cost * COSTS[name].scale
    top1 = np.concatenate([s.top1 for s in sources] + [[run.best["top1"]]])
    return Plot(
        (float(cost.min()), float(cost.max())),
        (float(top1.min()), float(top1.max())),
        COSTS[name].label,
        "validation top-1 (%)",
        "pareto",
    )


def _progress(run: SearchRun) -> str:
    """Best so far over the candidates evaluated, beside the random ones; the mean of each round."""
    curves = {"main": np.maximum.accumulate(run.history.top1)}
    key = [("━", "color:var(--accent)", "best so far")]
    if run.control:
        curves["other"] = np.maximum.accumulate(run.control.top1)
        key.append(("╍", "", "best so far of random candidates"))
    rounds, top1 = run.history.rounds, run.history.top1
    numbers = np.unique(rounds)
    means = np.array([top1[rounds == n].mean() for n in numbers])
    middles = np.array([np.flatnonzero(rounds == n).mean() + 1 for n in numbers])
    low = min(means.min(), *(curve.min() for curve in curves.values()))
    high = max(curve.max() for curve in curves.values())
    longest = max(map(len, curves.values()))
    plot = Plot((1, longest), (float(low), float(high)), "candidates evaluated", "top-1 (%)")
    for css, curve in curves.items():
        changes = np.flatnonzero(np.diff(curve, prepend=-1.0))
        x = np.append(changes, len(curve) - 1)
        plot.steps(x + 1, curve[x], css)
    plot.dots(middles, means, "var(--front)")
    key.append(("●", "color:var(--front)", "mean of each round"))
    items = "".join(f'<span><b style="{css}">{sign}</b>{text}</span>' for sign, css, text in key)
    return plot.html("best top-1 so far") + f'<p class="key">{items}</p>'


def _choices(run: SearchRun, layers: Sequence[dict[str, Any]]) -> str:
    """The section on what the best candidates have in common."""
    candidates = run.history
    number = min(len(candidates), max(BEST_FEWEST, round(BEST_SHARE * len(candidates))))
    best = np.argsort(-candidates.top1, kind="stable")[:number]
    rows = [candidates.architectures[i] for i in best]
    note = (
        f"How many percent of the best candidates ({number} of {len(candidates):,}) take each "
        f"choice of each layer; "
        f"outlined: the network found; hatched: not a choice there."
    )
    content = heat_map(layers, rows, candidates.architectures, run.best["choices"])
    return _section("What the best have in common", note, content)


def _table(run: SearchRun, names: Sequence[str]) -> str:
    columns = [column["name"] for column in _columns(run)]
    head = "".join(f'<th class="number"><button>{escape(c)}</button></th>' for c in columns)
    return (
        '<div class="tools"><input id="filter" type="search" placeholder="filter: k7_e6 3:skip" '
        'aria-label="filter by choices">'
        '<span class="note" id="count"></span></div><div class="scroll"><table class="candidates">'
        f"<thead><tr>{head}<th>architecture</th></tr></thead><tbody></tbody></table></div>"
        f'<button class="more">more</button>{color_key(names)}'
        "<noscript>The table needs JavaScript; history.csv holds the same.</noscript>"
    )


def _columns(run: SearchRun) -> list[dict[str, Any]]:
    costs = [{"key": k, "name": COSTS[k].label, "digits": 3} for k in run.history.costs]
    return [
        {"key": "top1", "name": "top-1 (%)", "digits": 2},
        *costs,
        {"key": "round", "name": "round", "digits": 0},
        {"key": "index", "name": "index", "digits": 0},
    ]


def _data(run: SearchRun, names: Sequence[str]) -> dict[str, Any]:
    """What the script needs; choices are indices into `choices`."""
    number = {name: i for i, name in enumerate(names)}
    history, columns = run.history, _columns(run)
    costs = [history.costs[k] * COSTS[k].scale for k in history.costs]
    values = np.column_stack([history.top1, *costs, history.rounds, np.arange(len(history))])
    rows = [
        {"values": [round(v, 6) for v in row], "choices": [number[name] for name in architecture]}
        for row, architecture in zip(values.tolist(), history.architectures, strict=True)
    ]
    chosen = list(run.best["choices"])
    (x0, x1), (y0, y1) = _pareto_axes(run).ranges
    return {
        "columns": columns,
        "rows": rows,
        "choices": list(names),
        "colors": [choice_color(name) for name in names],
        "winner": history.architectures.index(chosen) if chosen in history.architectures else -1,
        "costColumn": [column["key"] for column in columns].index(_cost_name(run)),
        "axes": {"x0": x0, "x1": x1, "y0": y0, "y1": y1},
    }


def _commands(run: SearchRun) -> str:
    folder, config = run.folder, run.config
    best = folder / "best_architecture.yaml"
    supernet = config.get("checkpoint") or folder / "supernet.pt"
    train = ["train_subnet.py", "--arch", best, "--dataset", config["dataset"]]
    commands = {
        "Repeat this run": ["search.py", "--config", folder / "config.yaml"],
        "Search its supernet again": ["search.py", "--checkpoint", supernet],
        "Train the network found": [*train, "--init-from", supernet],
        "Count its MACs and parameters": ["-m", "lookup_table", "--arch", best],
    }
    items = [
        f'<p class="note">{text}</p><pre>{escape(shlex.join(["python", *map(str, words)]))}</pre>'
        for text, words in commands.items()
    ]
    items.append(
        '<p class="note">See the curves</p>'
        f"<pre>{escape(shlex.join(['tensorboard', '--logdir', str(folder.parent)]))}</pre>"
    )
    return "".join(items)


def _log(path: Path) -> str:
    if not path.exists():
        return ""
    text = path.read_text(encoding="utf-8", errors="replace")
    return _folded("Log", f"<pre>{escape(text)}</pre>")
