"""Figures of one network: its layers, and its confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from utils.files import atomic_path

COLORS = {0: "#ffffff", 1: "#cfd8dc", 3: "#9ecae1", 5: "#fdbe6f", 7: "#f4a3a0", 9: "#c5b0d5"}
BOX_WIDTH = 0.74  # of the distance between two layers


class DrawnLayer(TypedDict):
    """One layer of the figure. `kernel` 0: nothing is computed (skip)."""

    position: str
    name: str
    kernel: int  # px
    expansion: int | None  # hidden over input channels; None where a block has no such thing
    stride: int
    out_chs: int
    in_size: int  # px


def _label(layer: DrawnLayer) -> str:
    kernel = f"{layer['kernel']}×{layer['kernel']}"
    return f"{layer['name']}  {kernel}" if layer["kernel"] else layer["name"]


def _legend(axes, kernels: Sequence[int]) -> None:
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor=COLORS.get(k, "#dddddd"), edgecolor="black", label=f"kernel {k}×{k}")
        for k in kernels
    ]
    patches.append(Patch(facecolor="white", edgecolor="grey", linestyle="--", label="skip"))
    axes.figure.legend(
        handles=patches, loc="outside lower center", ncols=len(patches), frameon=False, fontsize=9
    )


def draw_architecture(path: Path, layers: Sequence[DrawnLayer], title: str) -> None:
    """A box per layer, from the image (left) to the classifier.

    Colour: kernel; height: expansion; above: the resolution that goes in, where it changes; bars
    below: output channels; ↓2: stride 2.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    n = len(layers)
    figure = Figure(figsize=(max(7, 0.55 * n + 1.2), 5.4), layout="constrained")
    boxes, bars = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    tallest = max(layer["expansion"] or 3 for layer in layers)
    for i, layer in enumerate(layers):
        height = layer["expansion"] or (3 if layer["kernel"] else 1)
        skip = not layer["kernel"]
        boxes.add_patch(
            Rectangle(
                (i - BOX_WIDTH / 2, 0),
                BOX_WIDTH,
                height,
                facecolor=COLORS.get(layer["kernel"], "#dddddd"),
                edgecolor="grey" if skip else "black",
                linestyle="--" if skip else "-",
                linewidth=0.9,
            )
        )
        boxes.text(
            i,
            0.15 if height > 1 or skip else height + 0.1,
            _label(layer),
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=8.5,
            color="grey" if skip else "black",
        )
        if layer["stride"] > 1:
            boxes.text(
                i,
                height + (0.08 if height > 1 else 1.5),
                f"↓{layer['stride']}",
                ha="center",
                va="bottom",
                fontsize=11,
                color="tab:red",
                fontweight="bold",
            )
        if i == 0 or layer["in_size"] != layers[i - 1]["in_size"]:
            for axes in (boxes, bars):
                axes.axvline(i - 0.5, color="grey", linewidth=0.8, linestyle=":")
            boxes.text(
                i - 0.45,
                tallest + 0.95,
                f"{layer['in_size']} px",
                fontsize=9,
                va="top",
                color="grey",
            )
        bars.text(i, layer["out_chs"], f"{layer['out_chs']}", ha="center", va="bottom", fontsize=8)
    bars.bar(range(n), [la["out_chs"] for la in layers], width=BOX_WIDTH, color="#78909c")
    bars.set_yscale("log")
    bars.set_ylim(
        bottom=min(la["out_chs"] for la in layers) / 2, top=3 * max(la["out_chs"] for la in layers)
    )
    bars.set_ylabel("channels out\n(log scale)")
    bars.set_xlabel("layer")
    bars.set_xticks(range(n), [la["position"] for la in layers], fontsize=8)
    boxes.set_xlim(-0.6, n - 0.4)
    boxes.set_ylim(0, tallest + 1)
    boxes.set_yticks(range(0, tallest + 1))
    boxes.set_ylabel("expansion")
    boxes.set_title(title)
    for axes in (boxes, bars):
        axes.spines[["top", "right"]].set_visible(False)
    _legend(boxes, sorted({la["kernel"] for la in layers} - {0}))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")


def plot_confusion(path: Path, confusion: np.ndarray, classes: Sequence[str], title: str) -> None:
    """Images by true class (row) and answer (column), int [K, K]; colour: share of the row."""
    from matplotlib.figure import Figure

    k = len(classes)
    side = max(5.0, 0.16 * k + 3 if k > 25 else 0.5 * k + 2.2)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    share = 100 * confusion / np.maximum(1, confusion.sum(1, keepdims=True))
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, label="% of the true class", shrink=0.8)
    small = k > 25
    for row, column in np.argwhere(confusion) if not small else []:
        color = "white" if share[row, column] > 60 else "black"
        axes.text(
            column,
            row,
            str(confusion[row, column]),
            ha="center",
            va="center",
            color=color,
            fontsize=9,
        )
    size = 5 if small else 9
    long = max(map(len, classes)) > 2
    axes.set_xticks(range(k), classes, fontsize=size, rotation=90 if long else 0)
    axes.set_yticks(range(k), classes, fontsize=size)
    axes.set_xlabel("answer")
    axes.set_ylabel("true class")
    axes.set_title(title)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
