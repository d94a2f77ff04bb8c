"""Figures of the report page as HTML and SVG: they follow the page's colours and its width."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

Rows = Sequence[Sequence[str]]  # choice names of several architectures
HUES = {3: 212, 5: 160, 7: 32}  # of the kernel sizes that the papers use
NO_BLOCK = ("skip", "identity")


def kernel_and_expansion(name: str) -> tuple[int | None, int | None]:
    """(5, 6) of k5_e6, (3, None) of shuffle_k3, (None, None) where the name says neither."""
    found = [re.search(rf"(?:^|_){letter}(\d+)", name) for letter in "ke"]
    kernel, expansion = (int(m[1]) if m else None for m in found)
    return kernel, expansion


def choice_color(name: str) -> str:
    """A choice's colour: the kernel decides the hue, the expansion how strong it is."""
    if name in NO_BLOCK:
        return "hsl(215 8% 62%)"
    kernel, expansion = kernel_and_expansion(name)
    hue = 285 if kernel is None else HUES.get(kernel, 37 * kernel % 360)
    hue += 40 if "_g" in name else 0
    return f"hsl({hue} 62% {max(36, 66 - 4 * (expansion or 4))}%)"


def color_key(names: Sequence[str]) -> str:
    items = (
        f'<span><i style="background:{choice_color(name)}"></i>{escape(name)}</span>'
        for name in names
    )
    return f'<p class="key">{"".join(items)}</p>'


class Plot:
    """A plot whose drawing stretches to the page's width while its text keeps its size."""

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        x_label: str,
        y_label: str,
        name: str = "",
    ) -> None:
        from matplotlib.ticker import MaxNLocator

        self.ranges = [_with_margin(*x), _with_margin(*y)]
        self.shapes: list[str] = []
        self.texts: list[str] = []
        self.name = name
        for kind, (low, high), label in zip("xy", self.ranges, (x_label, y_label), strict=True):
            for tick in MaxNLocator(6).tick_values(low, high):
                if low <= tick <= high:
                    position = self._place(tick, kind)
                    line = f"M{position} 0V1000" if kind == "x" else f"M0 {position}H1000"
                    self.shapes.append(f'<path class="grid" d="{line}"/>')
                    self._text(kind, tick, kind, f"{tick:.10g}")
            self.texts.append(f'<span class="{kind}-label">{escape(label)}</span>')

    def _place(self, value: float, kind: str) -> float:
        low, high = self.ranges["xy".index(kind)]
        share = (value - low) / (high - low)
        return round(1000 * (share if kind == "x" else 1 - share), 1)

    def _text(self, css: str, value: float, kind: str, text: str) -> None:
        side = "left" if kind == "x" else "top"
        place = f"{side}:{self._place(value, kind) / 10:.2f}%"
        self.texts.append(f'<span class="{css}" style="{place}">{escape(text)}</span>')

    def dots(self, x: np.ndarray, y: np.ndarray, color: str, faint: bool = False) -> None:
        """Zero-length lines with round ends: round dots whatever the page's width."""
        points = zip(x.tolist(), y.tolist(), strict=True)
        path = "".join(f"M{self._place(a, 'x')} {self._place(b, 'y')}h0" for a, b in points)
        css = "dots faint" if faint else "dots"
        self.shapes.append(f'<path class="{css}" stroke="{color}" d="{path}"/>')

    def steps(self, x: np.ndarray, y: np.ndarray, css: str) -> None:
        """A line that keeps each value until the next x."""
        path = f"M{self._place(x[0], 'x')} {self._place(y[0], 'y')}"
        for a, b in zip(x[1:].tolist(), y[1:].tolist(), strict=True):
            path += f"H{self._place(a, 'x')}V{self._place(b, 'y')}"
        self.shapes.append(f'<path class="{css}" d="{path}"/>')

    def bound(self, x: float) -> None:
        if self.ranges[0][0] <= x <= self.ranges[0][1]:
            self.shapes.append(f'<path class="bound" d="M{self._place(x, "x")} 0V1000"/>')

    def star(self, x: float, y: float, title: str) -> None:
        place = f"left:{self._place(x, 'x') / 10:.2f}%;top:{self._place(y, 'y') / 10:.2f}%"
        self.texts.append(
            f'<span class="star" style="{place}" title="{escape(title)}">★</span>',
        )

    def html(self, label: str) -> str:
        name = f' id="{self.name}"' if self.name else ""
        return (
            f'<div class="plot"{name} role="img" aria-label="{escape(label)}">'
            f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">'
            f"{''.join(self.shapes)}</svg>{''.join(self.texts)}</div>"
        )


def _with_margin(low: float, high: float) -> tuple[float, float]:
    margin = 0.05 * (high - low) or max(1e-6, 0.05 * abs(high))
    return low - margin, high + margin


def round_color(number: int, last: int) -> str:
    """From violet for the first round to orange for the last one."""
    return f"hsl({round(265 + 125 * (number / last if last else 0)) % 360} 65% 55%)"


def heat_map(
    layers: Sequence[dict[str, Any]], best: Rows, everyone: Rows, winner: list[str]
) -> str:
    """How often the best candidates take each choice of each layer, as a table.

    Args:
        layers: of the space; `choices` is read.
        best, everyone: choice names of the best candidates and of all.
        winner: choice names of the network found; its cells are outlined.
    """
    names = list(dict.fromkeys(name for layer in layers for name in layer["choices"]))
    numbers = "".join(f"<th>{i}</th>" for i in range(1, len(layers) + 1))
    lines = [f'<tr><th class="name">layer</th>{numbers}</tr>']
    for name in names:
        cells = []
        for i, layer in enumerate(layers):
            if name not in layer["choices"]:
                cells.append('<td class="none" title="not a choice of this layer"></td>')
                continue
            share, usual = (
                sum(row[i] == name for row in rows) / len(rows) for rows in (best, everyone)
            )
            css = ("strong " if share > 0.5 else "") + ("winner" if winner[i] == name else "")
            title = f"layer {i + 1}, {name}: {share:.0%} of the best, {usual:.0%} of all"
            cells.append(
                f'<td class="{css}" title="{escape(title)}" '
                f'style="background:rgb(37 99 235/{share:.2f})">{100 * share:.0f}</td>'
            )
        lines.append(f'<tr><th class="name mono">{escape(name)}</th>{"".join(cells)}</tr>')
    return f'<div class="scroll"><table class="heat">{"".join(lines)}</table></div>'


def architecture_svg(space: dict[str, Any], choices: Sequence[str]) -> str:
    """The network from left to right.

    A block is as tall as its channels (square-root scale): where it begins, in its hidden layer
    and where it ends; the hidden part is as broad as its kernel. Bands share a resolution.

    Args:
        space: `widths`, `stem_stride`, `first_block`, `input_size`, `layers` (each with `in_chs`,
            `out_chs`, `stride`, `in_size`) of the search space.
        choices: choice names, one per layer.
    """
    blocks = [
        _block("stem", "k3", 3, space["widths"][0], space["stem_stride"], space["input_size"])
    ]
    if space["first_block"]:
        size = blocks[-1]["out_size"]
        wide = space["widths"][:2]
        blocks.append(_block("first", space["first_block"], *wide, 1, size))
    for i, (layer, name) in enumerate(zip(space["layers"], choices, strict=True), 1):
        shapes = (layer["in_chs"], layer["out_chs"], layer["stride"], layer["in_size"])
        blocks.append(_block(str(i), name, *shapes))
    last = blocks[-1]
    blocks.append(_block("head", "k1", last["out_chs"], space["widths"][-1], 1, last["out_size"]))

    most = max(b["hidden"] for b in blocks[:-1])
    slot = max(43, 8 + 7 * max(len(part) for b in blocks for part in b["name"].split("_")))
    parts = _bands(blocks, slot)
    for i, block in enumerate(blocks):
        parts.append(_draw_block(block, slot * (i + 0.5), slot, most))
    width = slot * len(blocks)
    return (
        f'<div class="scroll"><svg class="network" width="{width}" height="250" '
        f'viewBox="0 0 {width} 250" role="img" aria-label="the network, block by block">'
        f"{''.join(parts)}</svg></div>"
    )


def _block(place: str, name: str, in_chs: int, out_chs: int, stride: int, size: int) -> dict:
    kernel, expansion = kernel_and_expansion(name)
    passes = name in NO_BLOCK and stride == 1 and in_chs == out_chs
    hidden = in_chs * expansion if expansion else out_chs
    return {
        "place": place,
        "name": name,
        "in_chs": in_chs,
        "hidden": hidden,
        "out_chs": out_chs,
        "stride": stride,
        "size": size,
        "out_size": -(-size // stride),
        "kernel": 0 if passes else kernel or 3,
    }


def _bands(blocks: Sequence[dict], slot: int) -> list[str]:
    """Every other resolution on a darker ground, its size on top."""
    parts, start, dark = [], 0, False
    for i in range(1, len(blocks) + 1):
        if i < len(blocks) and blocks[i]["out_size"] == blocks[start]["out_size"]:
            continue
        x, width, size = start * slot, (i - start) * slot, blocks[start]["out_size"]
        if dark:
            parts.append(f'<rect class="band" x="{x}" y="0" width="{width}" height="250"/>')
        text = f"{size}×{size} px" if width > 60 else f"{size} px"
        parts.append(f'<text class="soft" x="{x + width / 2}" y="16">{text}</text>')
        start, dark = i, not dark
    return parts


def _draw_block(block: dict, x: float, slot: int, most: int) -> str:
    """One block around x: the wire, the shape, and its texts below."""
    middle = 96
    title = (
        f"{block['place']}: {block['name']}, {block['in_chs']} → {block['out_chs']} channels, "
        f"stride {block['stride']}, {block['size']} → {block['out_size']} px"
    )
    if block["kernel"] == 0:
        shape = (
            f'<rect class="skipped" x="{x - 8}" y="{middle - 14}" width="16" height="28" rx="4"/>'
        )
    else:
        # the head's 1x1 conv may be taller than everything else: it is cut at the figure's height
        ends = [min(c, most) for c in (block["in_chs"], block["hidden"], block["out_chs"])]
        left, bulge, right = (5 + 60 * (c / most) ** 0.5 for c in ends)
        half = 3 + 1.5 * block["kernel"]
        points = [(-half - 4, left), (-half, bulge), (half, bulge), (half + 4, right)]
        outline = [(x + dx, middle - h) for dx, h in points]
        outline += [(x + dx, middle + h) for dx, h in reversed(points)]
        text = " ".join(f"{a:.1f},{b:.1f}" for a, b in outline)
        searched = block["place"].isdigit()
        paint = f'fill="{choice_color(block["name"])}"' if searched else 'class="fixed"'
        shape = f'<polygon {paint} points="{text}"/>'
    below = block["name"].split("_") if block["place"].isdigit() else [block["place"]]
    lines = "".join(
        f'<text class="mono" x="{x}" y="{180 + 13 * i}">{escape(part)}</text>'
        for i, part in enumerate(below)
    )
    stride = f'<text x="{x}" y="226">↓{block["stride"]}</text>' if block["stride"] > 1 else ""
    return (
        f"<g><title>{escape(title)}</title>"
        f'<path class="wire" d="M{x - slot / 2} {middle}h{slot}"/>{shape}{lines}'
        f'{stride}<text class="soft" x="{x}" y="242">{block["out_chs"]}</text></g>'
    )
