"""Search space: a YAML description, resolved for an input size and a class count into layers.

Legend: L searchable layers, C the largest number of choices of any layer. An architecture is an int
vector [L] of indices into each layer's own choice list; on disk it is the list of choice names.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from model.blocks import BlockStyle, TrainingStyle, parse_mbconv
from model.space_file import WIDTHS, check_space, load_space_file, plain_keys

Architecture = Sequence[int] | np.ndarray  # [L]
SMALL_IMAGE = 64  # px; up to it, the CIFAR form: stem and first stride-2 layer at stride 1
MIN_SIZE, MAX_SIZE = 8, 1024  # px
MAX_CLASSES = 1_000_000
MAX_WEIGHTS = 2**32  # estimated parameters of a supernet: 16 GiB in float32
MAX_SPACE = 300  # decimal digits of a space's size: counts above 2^62 are float64, up to 1e308


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One searchable position: shapes [in_chs, in_size, in_size] -> [out_chs, in_size / stride]."""

    in_chs: int
    out_chs: int
    stride: int
    in_size: int  # px
    choices: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """An immutable search space at one input size and class count."""

    name: str
    supernet: str  # "multipath" or "superkernel"
    input_size: int  # px
    num_classes: int
    widths: tuple[int, ...]  # [stem, (first,) one per stage, last]
    default_widths: tuple[int, ...]
    stem_stride: int
    first_block: str | None
    layers: tuple[Layer, ...]
    style: BlockStyle
    affine_in_supernet: bool
    classifier_bias: bool
    dropout: float
    # the YAML that it was made from, `extends` and widths resolved: enough to load it again
    content: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def stem_width(self) -> int:
        return self.widths[0]

    @property
    def first_width(self) -> int:
        """Input channels of the first searchable layer."""
        return self.widths[1 if self.first_block else 0]

    @property
    def last_width(self) -> int:
        return self.widths[-1]

    @property
    def stem_size(self) -> int:
        """Height and width after the stem, px."""
        return -(-self.input_size // self.stem_stride)  # "same" padding: rounded up

    @property
    def last_size(self) -> int:
        """Height and width after the last searchable layer, px."""
        return -(-self.layers[-1].in_size // self.layers[-1].stride)

    @property
    def training_style(self) -> BlockStyle:
        """Style of a standalone network while it is trained."""
        return TrainingStyle(**dataclasses.asdict(self.style))

    @property
    def supernet_style(self) -> BlockStyle:
        """Style of the supernet; SPOS has BNs without scale and shift there."""
        return dataclasses.replace(self.training_style, bn_affine=self.affine_in_supernet)

    @cached_property
    def num_choices(self) -> np.ndarray:
        """Number of choices of each layer, int [L]."""
        return np.array([len(layer.choices) for layer in self.layers])

    @property
    def max_choices(self) -> int:
        return int(self.num_choices.max())

    @cached_property
    def size(self) -> int:
        """Number of encodings, the product of `num_choices`."""
        return int(np.prod(self.num_choices.astype(object)))  # Python integers: no overflow

    @cached_property
    def fingerprint(self) -> str:
        """Short hash of everything that decides the shapes and parameters of a network."""
        facts = dataclasses.asdict(self)
        for key in ("name", "default_widths", "content"):  # these change no network
            del facts[key]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def encode(self, names: Sequence[str]) -> np.ndarray:
        """Map choice names to indices, int [L].

        Raises:
            ValueError: wrong length, or a choice that its layer does not have; names both.
        """
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"an architecture is a list of choice names, not {names!r}")
        if len(names) != self.num_layers:
            raise ValueError(
                f"architecture has {len(names)} choices, but {self.name} has "
                f"{self.num_layers} searchable layers"
            )
        for i, (name, layer) in enumerate(zip(names, self.layers, strict=True), 1):
            if name not in layer.choices:
                known = any(name in other.choices for other in self.layers)
                why = "is not allowed there" if known else f"is unknown in {self.name}"
                raise ValueError(
                    f"layer {i} of {self.num_layers}: choice '{name}' {why} "
                    f"(allowed: {', '.join(layer.choices)})"
                )
        return np.array([la.choices.index(n) for n, la in zip(names, self.layers, strict=True)])

    def decode(self, architecture: Iterable[int]) -> list[str]:
        """Map indices, int [L], to choice names."""
        return [la.choices[int(c)] for c, la in zip(architecture, self.layers, strict=True)]


def make_divisible(width: float, divisor: int = 8) -> int:
    """Round to a multiple of `divisor`, never below 90 % of `width` (MobileNetV2's rule)."""
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)  # the nearest
    return rounded + divisor if rounded < 0.9 * width else rounded


def _resolve_widths(spec: dict, where: str, widths: Sequence[int] | None) -> list[int]:
    parts = [spec["stem"], *([spec["first"]] if spec["first"] else []), *spec["stages"]]
    default = [*(part["width"] for part in parts), spec["last"]]
    chosen = list(widths if widths is not None else spec.get("widths") or default)
    if len(chosen) != len(default) or not WIDTHS[0](chosen):
        first = "first, " if spec["first"] else ""
        raise ValueError(
            f"{where}: widths must be {len(default)} positive integers "
            f"[stem, {first}one per stage, last], not {chosen}"
        )
    if (multiplier := spec.get("width_mult", 1.0)) != 1.0 and widths is None:  # else final
        # MobileNetV2's rule: the last conv grows with the network, but never shrinks
        body = [make_divisible(w * multiplier) for w in chosen[:-1]]
        chosen = [*body, make_divisible(chosen[-1] * max(1.0, multiplier))]
    return chosen


def _resolve_layers(
    spec: dict, where: str, widths: Sequence[int], size: int, cifar_form: bool
) -> list[Layer]:
    """Resolve the stages into searchable layers.

    Args:
        widths: [stem, (first,) one per stage, last].
        size: height and width after the stem, px.
        cifar_form: the first stride-2 layer keeps the resolution.
    """
    num_fixed = 2 if spec["first"] else 1  # widths before those of the stages
    in_chs, to_unstride = widths[num_fixed - 1], cifar_form
    layers: list[Layer] = []
    for stage, out_chs in zip(spec["stages"], widths[num_fixed:-1], strict=True):
        for i in range(stage["layers"]):
            stride = stage["stride"] if i == 0 else 1
            if stride == 2 and to_unstride:
                stride, to_unstride = 1, False
            # the most specific list counts: of the layer, of the stage, of the space
            of_layer = stage.get("layer_choices", {}).get(i + 1)
            names = of_layer or stage.get("choices") or spec["choices"]
            can_skip = stride == 1 and in_chs == out_chs
            if spec["supernet"] == "superkernel" and i == 0:
                can_skip = False  # Single-Path NAS never skips the first layer of a stage
            choices = tuple(n for n in names if n != "skip" or can_skip)
            if not choices:
                raise ValueError(f"{where}: layer {len(layers) + 1} has no choice left but skip")
            shape = {"in_chs": in_chs, "out_chs": out_chs, "stride": stride, "in_size": size}
            layers.append(Layer(**shape, choices=choices))
            in_chs, size = out_chs, -(-size // stride)  # "same" padding: ceil(size / stride)
    return layers


def _check_widths(spec: dict, where: str, layers: Sequence[Layer]) -> None:
    """Raise ValueError for shapes that the named blocks cannot have."""
    for i, layer in enumerate(layers, 1):
        for name in layer.choices:
            in_chs, out_chs = layer.in_chs, layer.out_chs
            keeps_shape = layer.stride == 1 and in_chs == out_chs
            # the 1x1 convs of a `_g2` block split both channel counts into groups
            groups = (parse_mbconv(name) or (0, 0, 1))[2]  # 1 of a user's block
            odd = in_chs % groups > 0 or out_chs % groups > 0
            if name.startswith("shuffle") or name == "xception":
                # half of the channels pass; at stride 2 the main branch makes out - in of them
                odd = out_chs % 2 > 0 or (not keeps_shape and out_chs <= in_chs)
            if odd:
                raise ValueError(
                    f"{where}: layer {i}: '{name}' cannot go from {in_chs} to {out_chs} channels "
                    f"(widths: even, divisible by the groups, and growing where SPOS downsamples)"
                )
            if spec["supernet"] == "superkernel" and groups > 1:
                raise ValueError(f"{where}: '{name}': a superkernel has no group convolutions")


def _check_size(where: str, layers: Sequence[Layer], last: int, num_classes: int) -> None:
    """Raise ValueError for supernets too large to hold and spaces too large to count."""
    weights = layers[-1].out_chs * last + last * num_classes  # head: 1x1 conv, classifier
    for layer in layers:
        for name in layer.choices:
            kernel, expansion, groups = parse_mbconv(name) or (7, 1, 1)  # others: at most this
            hidden = layer.in_chs * expansion
            weights += hidden * (layer.in_chs + layer.out_chs) // groups + hidden * kernel**2
    if weights > MAX_WEIGHTS:
        raise ValueError(
            f"{where}: the supernet would have about {weights / 1e9:,.1f} billion weights; take "
            f"smaller widths, or fewer layers or choices"
        )
    if sum(math.log10(len(layer.choices)) for layer in layers) > MAX_SPACE:
        raise ValueError(
            f"{where}: more than 10^{MAX_SPACE} architectures; take fewer layers or choices"
        )


def load_space(
    name: str | Path | Mapping,
    input_size: int = 224,
    num_classes: int = 1000,
    widths: Sequence[int] | None = None,
) -> SearchSpace:
    """Read a space by name (config_file/search_space/) or from a YAML file.

    Args:
        name: a shipped space, a path that ends in .yaml or .yml, or the content of such a file.
        input_size: height and width of the images, 8 to 1024 px.
        num_classes: outputs of the classifier.
        widths: [stem, (first,) one per stage, last] in place of the file's.

    Raises:
        ValueError: the file, the size or the widths are not usable; the message says why.
    """
    if isinstance(name, Mapping):
        spec, where = plain_keys(name), str(name.get("name"))
        check_space(spec, where)
    else:
        spec, where = load_space_file(name), str(name)
    if not MIN_SIZE <= input_size <= MAX_SIZE:
        raise ValueError(f"input size {input_size} is not between {MIN_SIZE} and {MAX_SIZE} px")
    if not 1 <= num_classes <= MAX_CLASSES:
        raise ValueError(f"number of classes must be 1 to {MAX_CLASSES:,}, not {num_classes}")

    chosen = _resolve_widths(spec, where, widths)
    cifar_form = spec["small_images"] == "cifar" and input_size <= SMALL_IMAGE
    stem_stride = 1 if cifar_form else spec["stem"]["stride"]
    layers = _resolve_layers(spec, where, chosen, -(-input_size // stem_stride), cifar_form)
    _check_widths(spec, where, layers)
    _check_size(where, layers, chosen[-1], num_classes)

    return SearchSpace(
        name=where,
        supernet=spec["supernet"],
        input_size=input_size,
        num_classes=num_classes,
        widths=tuple(chosen),
        default_widths=tuple(_resolve_widths(spec, where, None)),
        stem_stride=stem_stride,
        first_block=spec["first"]["block"] if spec["first"] else None,
        layers=tuple(layers),
        style=BlockStyle(
            activation=spec["activation"], bn_eps=spec["bn"]["eps"], expand_e1=spec["expand_e1"]
        ),
        affine_in_supernet=spec["bn"]["affine_in_supernet"],
        classifier_bias=spec["classifier"]["bias"],
        dropout=spec["classifier"]["dropout"],
        content={
            **{key: value for key, value in spec.items() if key != "width_mult"},  # in `widths`
            "name": where,
            "widths": chosen,
        },
    )
