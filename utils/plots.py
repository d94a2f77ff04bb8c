"""Figures of a run, drawn by matplotlib without a display."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from utils.files import atomic_path
from utils.metrics import Metric
from utils.statistics import pareto_front

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Style = dict[str, Any]  # keyword arguments of matplotlib
Layout = Literal["constrained", "tight"]
INK = "#333435"  # of lines and text; in a page it becomes the colour of the page's text
CONTROL = "#8f98a3"
FRONT = "#d6293e"
ROUNDS = ("#7b68ee", "#1f9e89", "#e6a117")  # first to last; none is near black or white
MAX_POINTS = 4000  # drawn one by one in a page; more of them become a picture
STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), INK),
    **dict.fromkeys(("axes.titlecolor", "xtick.color", "ytick.color"), INK),
    "text.parse_math": False,  # a $ in a name is a $
    "svg.fonttype": "none",
    "svg.hashsalt": "oneshot_nas",  # the same figure gives the same bytes
}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
PANEL = (5.2, 3.7)  # inches: a figure of the page, readable on a phone
LAYERS_PER_ROW = 6


@dataclass(frozen=True)
class Points:
    """Candidates as costs in their metric's unit [N], top-1 (%) [N] and rounds [N]."""

    cost: np.ndarray
    top1: np.ndarray
    rounds: np.ndarray


@dataclass(frozen=True)
class CostPlot:
    """Candidates over one metric, and the random ones beside them, if there are any.

    Attributes:
        window: lowest and highest cost allowed, None where there is no bound.
    """

    metric: Metric
    window: tuple[float | None, float | None]
    found: Points
    control: Points | None


def new_axes(size: tuple[float, float], layout: Layout = "constrained") -> tuple[Figure, Axes]:
    """Make a figure of `size` inches with one plot."""
    from matplotlib.figure import Figure  # here, as it takes a while

    figure = Figure(figsize=size, layout=layout)
    return figure, figure.add_subplot()


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure to a file, atomically."""
    from matplotlib import rc_context

    with atomic_path(path) as temporary, rc_context(STYLE):
        figure.savefig(temporary, dpi=150, format="png")


def inline_svg(draw: Callable[[], Figure]) -> str:
    """Draw a figure as an SVG element for a page: transparent, in the colour of the page's text."""
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context(STYLE):
        draw().savefig(text, format="svg", transparent=True, dpi=150, metadata=NO_METADATA)
    svg = text.getvalue()
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg[svg.index("<svg") :])
    return svg.replace(INK, "currentColor")


def probability_map(probabilities: np.ndarray, num_choices: np.ndarray) -> Figure:
    """Draw each layer's choice probabilities [L, C] as a heat map; blank beyond num_choices [L].

    Choices are numbered in the order of each layer's own list.
    """
    layers, choices = probabilities.shape
    beyond = np.arange(choices) >= np.asarray(num_choices)[:, None]
    shown = np.ma.masked_array(probabilities, beyond)
    figure, axes = new_axes((2 + 0.45 * choices, 1.5 + 0.22 * layers), "tight")
    image = axes.imshow(shown, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    figure.colorbar(image, ax=axes, label="probability")
    axes.set(xlabel="choice", ylabel="layer", xticks=range(choices))
    axes.set_yticks(range(layers), [str(i + 1) for i in range(layers)])
    return figure


def pareto_figure(
    plots: Sequence[CostPlot],
    winner: int,
    accuracy: str,
    title: str = "",
    size: tuple[float, float] = (9, 5.5),
) -> Figure:
    """Draw all candidates as accuracy over costs, with the front, the budget and the winner.

    Args:
        plots: of the same candidates over several metrics, side by side.
        winner: index of the chosen candidate.
        size: of one plot, in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] * (1 + 0.7 * (len(plots) - 1)), size[1]), layout="constrained")
    labels: dict[str, Artist] = {}
    costs = ", ".join(p.metric.show(float(p.found.cost[winner])) for p in plots)
    best = f"found: {plots[0].found.top1[winner]:.2f} %, {costs}"
    for axes, plot in zip(figure.subplots(1, len(plots), squeeze=False)[0], plots, strict=True):
        _draw_candidates(axes, plot, winner, best, bar=plot is plots[-1])
        _finish(axes, plot.metric.label, f"{accuracy} (%)")
        lines, names = axes.get_legend_handles_labels()
        labels |= dict(zip(names, lines, strict=True))
    figure.suptitle(title)
    columns = 5 if size[0] > 7 else 2
    where: Style = {"loc": "outside lower center", "fontsize": 9, "frameon": False}
    figure.legend(list(labels.values()), list(labels), ncols=columns, **where)
    return figure


def _draw_candidates(axes: Axes, plot: CostPlot, winner: int, best: str, bar: bool) -> None:
    """Draw one plot of `pareto_figure`; `best` labels the winner, `bar` adds the rounds' key."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import MaxNLocator

    cost, top1, rounds = plot.found.cost, plot.found.top1, plot.found.rounds
    if (control := plot.control) is not None:
        random: Style = {"color": CONTROL, "marker": "x", "label": "random", "rasterized": True}
        axes.scatter(control.cost, control.top1, s=12, linewidths=0.9, **random)
    colors: Style = {"c": rounds, "cmap": LinearSegmentedColormap.from_list("rounds", ROUNDS)}
    points = axes.scatter(cost, top1, s=16, linewidths=0, label="candidates", **colors)
    points.set(gid="candidates", rasterized=len(cost) > MAX_POINTS)
    if bar and rounds.max() > rounds.min():
        ticks = MaxNLocator(integer=True)
        drawn = axes.figure.colorbar(points, ax=axes, label="round", ticks=ticks)
        if drawn.solids is not None:
            drawn.solids.set_rasterized(True)
    front = pareto_front(np.column_stack([cost, -top1]))  # both minimised
    label = "Pareto front"
    axes.step(cost[front], top1[front], where="post", color=FRONT, linewidth=1.2, label=label)
    axes.scatter(cost[front], top1[front], color=FRONT, s=14, zorder=3)
    for bound, name, style in zip(plot.window, ("lowest cost", "budget"), (":", "--"), strict=True):
        if bound is not None:
            axes.axvline(bound, color=INK, linestyle=style, linewidth=1, label=name)
    star: Style = {"marker": "*", "s": 220, "color": "gold", "edgecolors": INK, "linewidths": 0.8}
    axes.scatter(cost[winner], top1[winner], zorder=4, label=best, **star)


def progress_figure(found: Points, control: Points | None, accuracy: str) -> Figure:
    """Draw the best so far over the candidates, beside random ones, and each round's mean."""
    figure, axes = new_axes(PANEL)
    curves = [(found, "C0", "-", "best so far")]
    if control is not None:
        curves.append((control, CONTROL, "--", "best of random"))
    for points, color, style, label in curves:
        best = np.maximum.accumulate(points.top1)
        number = np.arange(1, len(best) + 1)
        axes.step(number, best, style, where="post", color=color, label=label)
    rounds = np.unique(found.rounds)
    means = [found.top1[found.rounds == n].mean() for n in rounds]
    middles = [np.flatnonzero(found.rounds == n).mean() + 1 for n in rounds]
    axes.scatter(middles, means, s=12, color=FRONT, label="mean of a round")
    _finish(axes, "candidates evaluated", f"{accuracy} (%)")
    figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def epochs_figure(epochs: np.ndarray, curves: Mapping[str, np.ndarray]) -> Figure:
    """Draw numbers by their labels over epochs [E], one below the other; NaN is left out."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=PANEL, layout="constrained")
    for axes, (label, values) in zip(
        figure.subplots(len(curves), sharex=True, squeeze=False)[:, 0], curves.items(), strict=True
    ):
        axes.plot(epochs, values, ".-" if len(epochs) < 20 else "-", color="C0")
        _finish(axes, "", label)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def choices_figure(
    epochs: np.ndarray, layers: Sequence[Mapping[str, np.ndarray]], colors: Mapping[str, str]
) -> Figure:
    """Stack each layer's choice probabilities over the epochs [E] in the choices' colours."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = -(-len(layers) // LAYERS_PER_ROW)
    figure = Figure(figsize=(10, 0.4 + 1.25 * rows), layout="constrained")
    grid = figure.subplots(rows, LAYERS_PER_ROW, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(layers) :]:
        axes.set_axis_off()
    for number, (axes, choices) in enumerate(zip(grid.flat, layers, strict=False), 1):
        shades = [colors[name] for name in choices]
        axes.stackplot(epochs, *choices.values(), colors=shades, rasterized=True)
        axes.set_title(f"layer {number}", fontsize=8, pad=2)
        axes.tick_params(labelsize=7)
        axes.set(ylim=(0, 1), xlim=(epochs[0], max(epochs[-1], epochs[0] + 1)))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    figure.supxlabel("epoch", fontsize=9)
    return figure


def _finish(axes: Axes, x_label: str, y_label: str, title: str = "") -> None:
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    axes.grid(alpha=0.25)


def plot_fronts(
    path: Path,
    candidates: dict[str, tuple[np.ndarray, np.ndarray]],
    winners: dict[str, tuple[float, float]],
    cost_label: str,
    accuracy: str,
    remark: str = "",
) -> None:
    """Draw the Pareto fronts of several runs over their faint candidates, each run in a colour.

    Args:
        candidates: run -> cost [N] and top-1 (%) [N].
        winners: run -> cost and top-1 of the network found, a star.
        remark: for the title.
    """
    from matplotlib import colormaps

    figure, axes = new_axes((10, 5.5))
    number = 10 if len(candidates) <= 10 else 20
    colors = colormaps[f"tab{number}"](range(number))
    for i, (name, (cost, top1)) in enumerate(candidates.items()):
        color = colors[i % len(colors)]
        style = ("-", "--", ":")[i // len(colors) % 3]
        axes.scatter(cost, top1, s=8, color=color, alpha=0.15, linewidths=0)
        front = pareto_front(np.column_stack([cost, -top1]))
        axes.step(cost[front], top1[front], style, where="post", color=color, label=name)
        star: Style = {"marker": "*", "s": 160, "edgecolors": "black", "linewidths": 0.6}
        axes.scatter(*winners[name], color=color, zorder=4, **star)
    parts = "Pareto fronts", "stars: the networks found", remark
    _finish(axes, cost_label, f"{accuracy} (%)", "; ".join(filter(None, parts)))
    figure.legend(loc="outside right upper", fontsize=9, frameon=False)
    save_png(figure, path)


def plot_ranking(
    path: Path,
    score: np.ndarray,
    accuracy: np.ndarray,
    cost: np.ndarray,
    cost_label: str,
    score_name: str,
    title: str,
    marked: int | None = None,
) -> None:
    """Draw true accuracy over the supernet's score (both %), one point per network [N], by cost.

    Args:
        marked: the network that is an answer gets a ring.
    """
    figure, axes = new_axes((8, 5.5))
    size = 10 if len(score) > 50 else 40
    points = axes.scatter(score, accuracy, c=cost, s=size, cmap="viridis", alpha=0.75, linewidths=0)
    if marked is not None:
        ring: Style = {"s": 180, "facecolors": "none", "edgecolors": "tab:red", "linewidths": 1.5}
        axes.scatter(score[marked], accuracy[marked], **ring, label="answer")
        axes.legend()
    figure.colorbar(points, ax=axes, label=cost_label)
    x_label = f"validation {score_name} with the supernet's weights (%)"
    _finish(axes, x_label, "accuracy when trained alone (%)", title)
    save_png(figure, path)
