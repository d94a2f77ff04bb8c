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
