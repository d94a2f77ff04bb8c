"""Draws docs/images/space_<name>.png: a search space as a chain of layers with their choices.

python docs/figures/search_spaces.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from model import SearchSpace, load_space  # noqa: E402
from model.space_file import shipped_spaces  # noqa: E402

SKIP, FIXED, STRIDED = "#e8e8e8", "#f6f1e3", "#c0392b"
KERNEL_COLOURS = {3: "#cfe3f5", 5: "#9cc7ea", 7: "#6aa8dc"}
COLUMN, BOX_WIDTH, BOX_HEIGHT = 1.0, 0.9, 0.72


def colour(choice: str) -> str:
    """Blue by kernel size; grey for an identity; green for SPOS's xception."""
    if choice in ("skip", "identity"):
        return SKIP
    if choice == "xception":
        return "#cde8d1"
    kernel = re.search(r"k(\d+)", choice)
    return KERNEL_COLOURS.get(int(kernel[1]), "#4a86c5") if kernel else FIXED


def box(axes: Axes, x: float, y: float, text: str, fill: str, edge: str = "#555555") -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2),
            BOX_WIDTH,
            BOX_HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=fill,
            edgecolor=edge,
            linewidth=0.8,
        )
    )
    axes.text(x, y, text, ha="center", va="center", fontsize=7)


def draw_space(space: SearchSpace) -> Figure:
    """A column per layer: channels and output size above, one box per choice below."""
    num_columns = space.num_layers + 3
    rows = max(space.max_choices, 3)
    figure = Figure(figsize=(0.78 * num_columns + 0.4, 0.42 * rows + 1.6), layout="constrained")
    axes = figure.add_subplot()
    columns: list[tuple[str, int, tuple[str, ...] | None, bool]] = []
    columns.append((f"3→{space.stem_width}", space.stem_size, ("conv3x3",), space.stem_stride == 2))
    if space.first_block:
        first = f"{space.stem_width}→{space.first_width}"
        columns.append((first, space.stem_size, (space.first_block,), False))
    num_fixed = len(columns)
    for layer in space.layers:
        size = -(-layer.in_size // layer.stride)
        channels = f"{layer.in_chs}→{layer.out_chs}"
        columns.append((channels, size, layer.choices, layer.stride == 2))
    last = f"{space.layers[-1].out_chs}→{space.last_width}"
    columns.append((last, space.last_size, ("conv1x1",), False))
    columns.append((f"→{space.num_classes}", 1, ("pool, linear",), False))

    for x, (channels, size, choices, strided) in enumerate(columns):
        fixed = not num_fixed <= x < num_fixed + space.num_layers
        number = "" if fixed else str(x - num_fixed + 1)
        axes.text(x, 1.75, number, ha="center", va="center", fontsize=8, fontweight="bold")
        axes.text(x, 1.25, channels, ha="center", va="center", fontsize=6.5)
        px = f"{size} px"
        axes.text(
            x, 0.8, px, ha="center", va="center", fontsize=6.5, color=STRIDED if strided else "k"
        )
        if x:
            axes.annotate(
                "",
                xy=(x - BOX_WIDTH / 2, 0),
                xytext=(x - COLUMN + BOX_WIDTH / 2, 0),
                arrowprops={"arrowstyle": "-", "color": "#888888"},
            )
        for y, choice in enumerate(choices or ()):
            box(axes, x, -y * 0.85, choice, FIXED if fixed else colour(choice))
    axes.set_xlim(-0.7, len(columns) - 0.3)
    axes.set_ylim(-0.85 * (rows - 1) - 0.6, 2.2)
    axes.axis("off")
    size_text = f"{space.size:,}" if space.size < 10**6 else f"{space.size:.3g}"
    axes.set_title(
        f"{space.name} at {space.input_size} px: {space.num_layers} searchable layers, "
        f"{size_text} architectures (number, channels, output size of each layer; red: stride 2)",
        fontsize=9,
    )
    return figure


def main() -> None:
    for name in shipped_spaces():
        space = load_space(name, 32, 10) if name == "nas_bench_macro" else load_space(name)
        path = ROOT / "docs" / "images" / f"space_{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_space(space).savefig(path, dpi=110)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
