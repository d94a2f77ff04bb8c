"""A network as rows for people and figures: what every layer is."""

from __future__ import annotations

from collections.abc import Iterable

from model.blocks import SHUFFLE_NAME, SKIPS, parse_mbconv
from model.space import SearchSpace


def describe_block(name: str, keeps_shape: bool) -> tuple[str, int, int | None]:
    """(short name, kernel, expansion) of a choice; kernel 0 where nothing is computed."""
    if name in SKIPS:
        return ("skip", 0, None) if keeps_shape else ("conv", 1, None)
    if (mbconv := parse_mbconv(name)) is not None:
        kernel, expansion, groups = mbconv
        return (f"MB{expansion}" + (f" g{groups}" if groups > 1 else ""), kernel, expansion)
    if (shuffle := SHUFFLE_NAME.fullmatch(name)) is not None:
        return "shuffle", int(shuffle["kernel"]), None
    return name, 3, None  # xception


def describe(space: SearchSpace, architecture: Iterable[int]) -> list[dict]:
    """Stem, (first,) searchable layers and head, each as position, name, kernel, expansion, stride,
    out_chs and in_size (px).
    """
    rows = []

    def add(
        position: str, what: tuple[str, int, int | None], stride: int, out_chs: int, in_size: int
    ) -> None:
        name, kernel, expansion = what
        rows.append(
            {
                "position": position,
                "name": name,
                "kernel": kernel,
                "expansion": expansion,
                "stride": stride,
                "out_chs": out_chs,
                "in_size": in_size,
            }
        )

    add("stem", ("conv", 3, None), space.stem_stride, space.stem_width, space.input_size)
    if space.first_block is not None:
        what = describe_block(space.first_block, False)
        add("first", what, 1, space.first_width, space.stem_size)
    for i, (layer, choice) in enumerate(zip(space.layers, architecture, strict=True), 1):
        keeps_shape = layer.stride == 1 and layer.in_chs == layer.out_chs
        what = describe_block(layer.choices[int(choice)], keeps_shape)
        add(str(i), what, layer.stride, layer.out_chs, layer.in_size)
    add("head", ("conv + linear", 1, None), 1, space.last_width, space.last_size)
    return rows
