"""Figures of a run, drawn by matplotlib without a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def pareto_front(cost: np.ndarray, top1: np.ndarray) -> np.ndarray:
    """Indices, by rising cost, of the points that no cheaper or equally cheap point matches."""
    order = np.lexsort((-top1, cost))
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(top1[order])[:-1]])
    return order[top1[order] > best_before]


def probability_map(probabilities: np.ndarray, num_choices: np.ndarray) -> Figure:
    """Each layer's choice probabilities [L, C] as a heat map; entries beyond num_choices [L] blank.

    Choices are numbered in the order of each layer's own list.
    """
    from matplotlib.figure import Figure

    beyond = np.arange(probabilities.shape[1]) >= np.asarray(num_choices)[:, None]
    shown = np.ma.masked_array(probabilities, beyond)
    size = 2 + 0.45 * shown.shape[1], 1.5 + 0.22 * shown.shape[0]  # inches
    figure = Figure(figsize=size, layout="tight")
    axes = figure.add_subplot()
    image = axes.imshow(shown, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    figure.colorbar(image, ax=axes, label="probability")
    axes.set_xlabel("choice")
    axes.set_ylabel("layer")
    axes.set_xticks(range(shown.shape[1]))
    axes.set_yticks(range(shown.shape[0]), range(1, shown.shape[0] + 1))
    return figure


def plot_pareto(
    path: Path,
    cost: np.ndarray,
    top1: np.ndarray,
    rounds: np.ndarray,
    winner: int,
    window: Sequence[float | None],
    cost_label: str,
    title: str,
) -> None:
    """Every candidate as top-1 (%) over cost, the front, the budget and the winner.

    Args:
        cost, top1, rounds: [N], one entry per candidate.
        winner: index of the chosen one.
        window: lowest and highest cost allowed, None where there is no bound.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot()
    points = axes.scatter(
        cost, top1, c=rounds, s=16, cmap="viridis", alpha=0.75, linewidths=0, label="candidates"
    )
    if rounds.max() > rounds.min():
        figure.colorbar(points, ax=axes, label="round", ticks=MaxNLocator(integer=True))
    front = pareto_front(cost, top1)
    axes.step(
        cost[front], top1[front], where="post", color="tab:red", linewidth=1.2, label="Pareto front"
    )
    axes.scatter(cost[front], top1[front], color="tab:red", s=14, zorder=3)
    for bound, name in zip(window, ("lowest cost allowed", "budget"), strict=True):
        if bound is not None:
            style = "--" if name == "budget" else ":"
            axes.axvline(bound, color="black", linestyle=style, linewidth=1, label=name)
    axes.scatter(
        cost[winner],
        top1[winner],
        marker="*",
        s=260,
        color="gold",
        edgecolors="black",
        zorder=4,
        label=f"winner ({top1[winner]:.2f} %, {cost[winner]:,.3f} M)",
    )
    axes.set_xlabel(cost_label)
    axes.set_ylabel("validation top-1 (%)")
    axes.set_title(title)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def plot_fronts(
    path: Path,
    candidates: dict[str, tuple[np.ndarray, np.ndarray]],
    winners: dict[str, tuple[float, float]],
    cost_label: str,
) -> None:
    """The Pareto fronts of several runs over their faint candidates, each run in a colour.

    Args:
        candidates: run -> cost [N] and top-1 (%) [N].
        winners: run -> cost and top-1 of the network found, a star.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.5), layout="constrained")
    axes = figure.add_subplot()
    colors = colormaps["tab10" if len(candidates) <= 10 else "tab20"].colors
    for i, (name, (cost, top1)) in enumerate(candidates.items()):
        color = colors[i % len(colors)]
        style = ("-", "--", ":")[i // len(colors) % 3]
        axes.scatter(cost, top1, s=8, color=color, alpha=0.15, linewidths=0)
        front = pareto_front(cost, top1)
        axes.step(cost[front], top1[front], style, where="post", color=color, label=name)
        axes.scatter(
            *winners[name],
            marker="*",
            s=160,
            color=color,
            edgecolors="black",
            linewidths=0.6,
            zorder=4,
        )
    axes.set_xlabel(cost_label)
    axes.set_ylabel("validation top-1 (%)")
    axes.set_title("Pareto fronts; stars: the networks found")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right upper", fontsize=9, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def plot_ranking(
    path: Path,
    score: np.ndarray,
    accuracy: np.ndarray,
    cost: np.ndarray,
    cost_label: str,
    score_name: str,
    title: str,
) -> None:
    """True accuracy over the supernet's score (both %), one point per network [N], by cost."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.add_subplot()
    points = axes.scatter(score, accuracy, c=cost, s=10, cmap="viridis", alpha=0.75, linewidths=0)
    figure.colorbar(points, ax=axes, label=cost_label)
    axes.set_xlabel(f"validation {score_name} with the supernet's weights (%)")
    axes.set_ylabel("accuracy when trained alone (%)")
    axes.set_title(title)
    axes.grid(alpha=0.25)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
