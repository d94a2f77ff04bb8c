"""Draws docs/figures/nas.png: python docs/figures/nas.py"""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

BLUE, GREEN, ORANGE = "#dbe7fb", "#d9f2e4", "#fde9cf"


def box(axes: Axes, x: float, title: str, text: str, color: str) -> None:
    shape = FancyBboxPatch((x, 0.3), 2.6, 1.3, boxstyle="round,pad=0.08", fc=color, ec="#444")
    axes.add_patch(shape)
    axes.text(x + 1.3, 1.25, title, ha="center", va="center", fontsize=12, weight="bold")
    axes.text(x + 1.3, 0.78, text, ha="center", va="center", fontsize=10)


def arrow(axes: Axes, start: tuple, end: tuple, label: str, where: tuple, bend: float) -> None:
    style = {"arrowstyle": "-|>", "lw": 1.4, "color": "#333"}
    style["connectionstyle"] = f"arc3,rad={bend}"
    axes.annotate("", xy=end, xytext=start, arrowprops=style)
    axes.text(*where, label, ha="center", va="center", fontsize=10, style="italic")


def main() -> None:
    figure = Figure(figsize=(10.5, 2.9), layout="constrained")
    axes = figure.add_subplot()
    box(axes, 0, "Search space", "which networks are there?\nmodel/, config_file/", BLUE)
    box(axes, 4.2, "Search strategy", "which one to try next?\nsearch_strategy/", GREEN)
    box(
        axes,
        8.4,
        "Performance estimation",
        "how good, at what cost?\nsupernet, lookup_table/",
        ORANGE,
    )
    arrow(axes, (2.7, 0.95), (4.1, 0.95), "space $\\mathcal{A}$", (3.4, 1.12), 0)
    arrow(axes, (6.9, 1.2), (8.3, 1.2), "ask: networks $a$", (7.6, 1.62), -0.25)
    arrow(axes, (8.3, 0.7), (6.9, 0.7), "tell: scores", (7.6, 0.26), -0.25)
    axes.set_xlim(-0.2, 11.2)
    axes.set_ylim(0, 1.95)
    axes.axis("off")
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=130, facecolor="white")


if __name__ == "__main__":
    main()
