"""Draws docs/figures/one_shot.png: python docs/figures/one_shot.py"""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

LAYERS = 4
CHOICES = ("3×3, e3", "5×5, e6", "skip")
COLORS = ("#4285d4", "#2aae84", "#9aa3ad")
PATH = (0, 1, 2, 1)  # the sampled choice of each layer
WEIGHTS = ((0.6, 0.3, 0.1), (0.2, 0.7, 0.1), (0.1, 0.3, 0.6), (0.25, 0.6, 0.15))


def grid(axes: Axes, weights: tuple[tuple[float, ...], ...], labels: bool) -> None:
    """Layers from top to bottom, choices side by side, joined by lines as strong as weights."""
    for i, row in enumerate(weights):
        y, sum_y = -i * 1.5, -i * 1.5 - 0.75
        for c, weight in enumerate(row):
            alpha = 0.12 + 0.88 * weight
            axes.add_patch(
                FancyBboxPatch(
                    (c - 0.38, y - 0.24),
                    0.76,
                    0.48,
                    boxstyle="round,pad=0.03",
                    fc=COLORS[c],
                    ec="#333" if weight else "#bbb",
                    alpha=alpha,
                )
            )
            text = f"{weight:.2f}" if labels else CHOICES[c]
            axes.text(c, y, text, ha="center", va="center", fontsize=9)
            for end in (y + 0.75, sum_y):
                edge = y + (0.27 if end > y else -0.27)
                axes.plot([1, c], [end, edge], color="#333", lw=2.2 * weight, alpha=alpha)
        axes.plot(1, sum_y, "o", color="white", mec="#333", ms=9 if labels else 5, zorder=3)
        if labels:
            axes.text(1, sum_y - 0.01, "+", ha="center", va="center", fontsize=9, zorder=4)
    axes.plot(1, 0.75, "o", color="white", mec="#333", ms=5, zorder=3)
    axes.set_xlim(-0.7, 2.7)


def superkernel(axes: Axes) -> None:
    """A 5x5 kernel with its inner 3x3, and channels in two halves, for every layer."""
    for i, (kernel, half) in enumerate(((3, True), (5, False), (0, False), (5, False))):
        y = -i * 1.5
        for r in range(5):
            for c in range(5):
                inner = 1 <= r <= 3 and 1 <= c <= 3
                used = kernel == 5 or (kernel == 3 and inner)
                color = COLORS[0] if inner else COLORS[1]
                axes.add_patch(
                    Rectangle(
                        (0.1 + 0.2 * c, y - 0.5 + 0.2 * r),
                        0.19,
                        0.19,
                        fc=color,
                        alpha=0.95 if used else 0.15,
                    )
                )
        for k in range(6):
            used = kernel and (k < 3 or not half)
            color = COLORS[0] if k < 3 else COLORS[1]
            place = (1.5 + 0.18 * k, y - 0.4)
            axes.add_patch(Rectangle(place, 0.14, 0.8, fc=color, alpha=0.95 if used else 0.15))
        name = "skip" if not kernel else f"{kernel}×{kernel}, e{3 if half else 6}"
        axes.text(2.75, y, name, va="center", fontsize=9)
        axes.annotate(
            "", xy=(1.3, y - 0.95), xytext=(1.3, y - 0.6), arrowprops={"arrowstyle": "-", "lw": 1.6}
        )
    axes.text(0.6, 0.75, "kernel", ha="center", fontsize=9)
    axes.text(2.02, 0.75, "channels", ha="center", fontsize=9)
    axes.set_xlim(-0.1, 3.7)


def main() -> None:
    figure = Figure(figsize=(10.5, 5), layout="constrained")
    panels = figure.subplots(1, 3)
    one_hot = tuple(tuple(float(c == chosen) for c in range(3)) for chosen in PATH)
    grid(panels[0], one_hot, labels=False)
    grid(panels[1], WEIGHTS, labels=True)
    superkernel(panels[2])
    titles = (
        "single path: one choice per layer\nruns and is trained",
        "weighted sum: all choices run,\nweighted by trained probabilities",
        "superkernel: choices are slices\nof one kernel",
    )
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=11)
        axes.set_ylim(-5.6, 1.1)
        axes.axis("off")
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=130, facecolor="white")


if __name__ == "__main__":
    main()
