"""The drawing of a network, and a confusion matrix."""

from __future__ import annotations

import colorsys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.plots import CONTROL as GREY
from utils.plots import INK, Style, new_axes, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HUES = {1: 0.13, 3: 0.59, 5: 0.44, 7: 0.09}  # by kernel size; other blocks are purple
WIRE = 0.0  # y of the line that joins the blocks
TALLEST = 1.0  # half the height of the block with the most channels


@dataclass(frozen=True)
class DrawnBlock:
    """One layer of a network.

    Attributes:
        place: stem, first, the number of a searchable layer, or head.
        kernel: px; 0: nothing is computed (skip); None: it is not known, a plain box.
        hidden: channels inside; None: a plain convolution, which has no inside.
        in_size: height and width of the input, px.
        color: of its choice; None for a fixed part.
    """

    place: str
    name: str
    kernel: int | None
    hidden: int | None
    in_chs: int
    out_chs: int
    stride: int
    in_size: int
    color: str | None

    @property
    def out_size(self) -> int:
        return -(-self.in_size // self.stride)


def choice_color(kernel: int | None, shade: float) -> str:
    """Return the hue of a kernel size, from dark (shade 0) to light (1)."""
    if kernel == 0:
        return GREY
    hue = 0.8 if kernel is None else HUES.get(kernel, 0.37 * kernel % 1)
    return "#{:02x}{:02x}{:02x}".format(
        *(round(255 * c) for c in colorsys.hls_to_rgb(hue, 0.4 + 0.3 * shade, 0.58))
    )


def network_figure(blocks: Sequence[DrawnBlock], title: str = "") -> Figure:
    """Draw the network from left to right.

    A block is as tall as its channels (square-root scale) where it begins, inside and where it
    ends, and as broad as its kernel; a dashed one is skipped. Bands share a resolution.
    """
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    longest = max(len(part) for b in blocks for part in (b.place, *b.name.split("_")))
    slot = max(0.44, 0.1 + 0.07 * longest)  # inches
    lines = textwrap.wrap(title, round(13 * slot * len(blocks)))  # characters of 10 pt per inch
    width, height = slot * len(blocks) + 0.1, 2.6 + 0.1 * bool(lines) + 0.2 * len(lines)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 2.6 / figure.get_figheight()))
    axes.set_axis_off()
    axes.set_xlim(-0.5 - 0.05 / slot, len(blocks) - 0.5 + 0.05 / slot)
    axes.set_ylim(-2.3, 1.4)
    # the head's 1x1 conv may be taller than everything else: it is cut at the figure's height
    most = max(block.hidden or block.out_chs for block in blocks[:-1])
    axes.plot([-0.5, len(blocks) - 0.5], [WIRE, WIRE], color=GREY, linewidth=1.2, zorder=1)
    start = 0
    for i, block in enumerate(blocks):
        _draw_block(axes, i, block, most, slot)
        if i + 1 == len(blocks) or blocks[i + 1].out_size != blocks[start].out_size:
            if start:
                axes.axvline(start - 0.5, color=GREY, linewidth=0.6, linestyle=":")
            size = blocks[start].out_size
            broad = (i + 1 - start) * slot > 0.65
            text = f"{size}×{size} px" if broad else f"{size} px" if slot > 0.5 else f"{size}"
            axes.text((start + i) / 2, 1.22, text, ha="center", fontsize=8, alpha=0.7)
            start = i + 1
    if lines:
        figure.suptitle("\n".join(lines), fontsize=10, color=rcParams["text.color"])
    return figure


def _draw_block(axes: Axes, x: float, block: DrawnBlock, most: int, slot: float) -> None:
    """Draw the shape of one block, and its choice, stride and output channels below."""
    from matplotlib.patches import Polygon, Rectangle

    left, inside, right = (
        0.06 + (TALLEST - 0.06) * (min(chs, most) / most) ** 0.5
        for chs in (block.in_chs, block.hidden or block.out_chs, block.out_chs)
    )
    color = block.color or GREY
    if block.kernel == 0:
        dashed: Style = {"facecolor": "none", "edgecolor": GREY, "linestyle": "--"}
        axes.add_patch(Rectangle((x - 0.16, -0.25), 0.32, 0.5, **dashed))
    else:
        half = (0.09 + 0.0165 * (block.kernel or 5)) / (slot / 0.44)
        edge = 0.0 if block.kernel is None else 0.06 / (slot / 0.44)
        middle = [] if block.hidden is None else [(-half, inside), (half, inside)]
        outline = [(-half - edge, left), *middle, (half + edge, right)]
        outline += [(dx, -height) for dx, height in reversed(outline)]
        points = [(x + dx, WIRE + height) for dx, height in outline]
        shape = Polygon(points, facecolor=color, edgecolor=INK if block.kernel is None else "none")
        axes.add_patch(shape)
    centred: Style = {"ha": "center", "va": "center", "fontsize": 8}
    for i, part in enumerate(block.name.split("_") if block.color else [block.place]):
        axes.text(x, -1.25 - 0.18 * i, part, family="monospace", **centred)
    if block.stride > 1:
        axes.text(x, -1.95, f"↓{block.stride}", **centred)
    axes.text(x, -2.17, str(block.out_chs), alpha=0.7, **centred)


def plot_confusion(path: Path, confusion: np.ndarray, classes: Sequence[str], title: str) -> None:
    """Draw images by true class (row) and answer (column), int [K, K]; colour: share of the row."""
    k = len(classes)
    small = k > 25
    side = max(5.0, 0.16 * k + 3 if small else 0.5 * k + 2.2)
    figure, axes = new_axes((side + 1, side))
    share = 100 * confusion / np.maximum(1, confusion.sum(1, keepdims=True))  # 0 / 1 without images
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, label="% of the true class", shrink=0.8)
    for row, column in np.argwhere(confusion) if not small else []:
        color = "white" if share[row, column] > 60 else "black"
        text = str(confusion[row, column])
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
    size = 5 if small else 9
    long = max(map(len, classes)) > 2
    axes.set_xticks(range(k), classes, fontsize=size, rotation=90 if long else 0)
    axes.set_yticks(range(k), classes, fontsize=size)
    axes.set(xlabel="answer", ylabel="true class", title=title)
    save_png(figure, path)
