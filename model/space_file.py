"""Reader and schema of a search space's YAML.

`extends: NAME` starts from another space and replaces the keys given; `stages` is replaced as a
whole. The schema is the dicts below: key -> (check, description of a valid value).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from model.blocks import ACTIVATIONS, is_block_name, parse_mbconv
from utils.errors import nearest
from utils.yaml_file import read_yaml, shown

SPACE_SUFFIXES = (".yaml", ".yml")
SPACE_DIR = Path(__file__).resolve().parent.parent / "config_file" / "search_space"

MAX_CHOICES = 64  # of a layer
MAX_LAYERS = 256  # searchable ones
MAX_EXTENDS = 8  # files that extend each other

Check = tuple[Callable[[object], bool], str]


def _number(
    low: float, high: float, kinds: tuple[type, ...] = (int, float), name: str = "a number"
) -> Check:
    return (
        lambda v: isinstance(v, kinds) and not isinstance(v, bool) and low <= v <= high,  # type: ignore[operator]
        f"{name} from {low} to {high}",
    )


def _int(low: int, high: int) -> Check:
    return _number(low, high, (int,), "an integer")


def _one_of(*values: str | bool) -> Check:
    return (
        lambda v: type(v) in {type(x) for x in values} and v in values,  # 1 == True, but is no bool
        "one of " + ", ".join(str(v).lower() for v in values),
    )


def _is_choice_list(v: object) -> bool:
    return (
        isinstance(v, list)
        and 0 < len(v) <= MAX_CHOICES
        and all(isinstance(n, str) and is_block_name(n) for n in v)
        and len(set(v)) == len(v)
    )


CHOICES: Check = (
    _is_choice_list,
    "a list of different block names (k3_e6, k3_e1_g2, shuffle_k5, xception, skip, identity, ...)",
)
BOOL = _one_of(True, False)
WIDTH = _int(1, 65536)
WIDTHS: Check = (
    lambda v: isinstance(v, list) and len(v) > 0 and all(WIDTH[0](w) for w in v),
    "a list of positive integers [stem, (first,) one per stage, last]",
)
TEXT: Check = (lambda v: isinstance(v, str) and v != "", "a text")
MBCONV: Check = (
    lambda v: isinstance(v, str) and parse_mbconv(v) is not None,
    "an MBConv name such as k3_e1",
)
LAYER_CHOICES: Check = (
    lambda v: (
        isinstance(v, dict) and all(_int(1, 64)[0](k) and _is_choice_list(c) for k, c in v.items())
    ),
    "a mapping of layer numbers within the stage (from 1) to lists of block names",
)

STEM = {"width": WIDTH, "stride": _int(1, 2)}
FIRST = {"width": WIDTH, "block": MBCONV}
STAGE = {"width": WIDTH, "layers": _int(1, 64), "stride": _int(1, 2)}
STAGE_OPTIONAL = {"choices": CHOICES, "layer_choices": LAYER_CHOICES}
CLASSIFIER = {"bias": BOOL, "dropout": _number(0.0, 0.99)}
BN = {"eps": _number(1e-12, 1.0), "affine_in_supernet": BOOL}
TOP = {
    "name": TEXT,
    "supernet": _one_of("multipath", "superkernel"),
    "choices": CHOICES,
    "last": WIDTH,
    "activation": _one_of(*ACTIVATIONS),
    "expand_e1": BOOL,
    "small_images": _one_of("cifar", "as_is"),
}
TOP_OPTIONAL = {"paper": TEXT, "widths": WIDTHS, "width_mult": _number(0.05, 10.0)}
NESTED = {"stem": STEM, "first": FIRST, "classifier": CLASSIFIER, "bn": BN}


def _check_mapping(
    value: object, required: dict[str, Check], optional: dict[str, Check], where: str
) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a mapping of keys to values")
    for key in value:
        if key not in required and key not in optional:
            hint = nearest(str(key), [*required, *optional])
            raise ValueError(f"{where}: unknown key '{key}'{hint}")
    for key, (check, kind) in {**required, **optional}.items():
        if key not in value:
            if key in required:
                raise ValueError(f"{where}: key '{key}' is missing")
        elif not check(value[key]):
            raise ValueError(f"{where}: '{key}' must be {kind}, not {shown(value[key])}")


def check_space(spec: dict, where: str) -> None:
    """Check a space's content against the schema.

    Raises:
        ValueError: a key is unknown, missing or of the wrong kind; names file and key.
    """
    top = {key: value for key, value in spec.items() if key not in (*NESTED, "stages")}
    _check_mapping(top, TOP, TOP_OPTIONAL, where)
    for key, schema in NESTED.items():
        if key not in spec:
            raise ValueError(f"{where}: key '{key}' is missing")
        if not (key == "first" and spec[key] is None):
            _check_mapping(spec[key], schema, {}, f"{where}: {key}")
    stages = spec.get("stages")
    if not isinstance(stages, list) or not 1 <= len(stages) <= 64:
        raise ValueError(f"{where}: 'stages' must be a list of 1 to 64 stages")
    for i, stage in enumerate(stages, 1):
        _check_mapping(stage, STAGE, STAGE_OPTIONAL, f"{where}: stage {i}")
        for layer in stage.get("layer_choices", {}):
            if layer > stage["layers"]:
                raise ValueError(
                    f"{where}: stage {i}: layer_choices names layer {layer} of {stage['layers']}"
                )
    if (layers := sum(stage["layers"] for stage in stages)) > MAX_LAYERS:
        raise ValueError(f"{where}: it has {layers} searchable layers, more than {MAX_LAYERS}")
    if spec["supernet"] == "superkernel":
        lists = [spec["choices"]]
        for stage in stages:
            lists += [stage.get("choices", []), *stage.get("layer_choices", {}).values()]
        for name in {n for names in lists for n in names}:
            if name != "skip" and parse_mbconv(name) is None:
                raise ValueError(f"{where}: '{name}' is not a slice of an MBConv superkernel")


def plain_keys(content: Mapping) -> dict:
    """Return a space's content with integer layer numbers, which JSON turns into strings."""
    spec = copy.deepcopy(dict(content))
    stages = spec.get("stages")
    for stage in stages if isinstance(stages, list) else []:  # not checked yet
        if isinstance(stage, dict) and isinstance(stage.get("layer_choices"), dict):
            by_layer = stage["layer_choices"].items()
            stage["layer_choices"] = {int(k) if str(k).isdecimal() else k: v for k, v in by_layer}
    return spec


def shipped_spaces() -> list[str]:
    """Return the names of the spaces in config_file/search_space/, sorted."""
    return sorted(path.stem for path in SPACE_DIR.glob("*.yaml"))


def _inherited_widths(spec: dict, base: dict) -> list[int]:
    """Return a base's widths [stem, (first,) one per stage, last] under those that `spec` gives."""
    widths, first = list(base["widths"]), spec.get("first")
    if isinstance(spec.get("stem"), dict):
        widths[0] = spec["stem"].get("width", widths[0])
    widths[-1] = spec.get("last", widths[-1])
    if "first" in spec:
        inherited = widths[1:2] if base["first"] else []
        own = [first["width"]] if isinstance(first, dict) and "width" in first else inherited
        widths[1 : 1 + len(inherited)] = own if first else []
    return widths


def load_space_file(name: str | Path, _seen: tuple[str, ...] = ()) -> dict:
    """Read and check a space's YAML and resolve `extends`.

    Args:
        name: a shipped space, or a path that ends in .yaml or .yml.

    Raises:
        ValueError: no such space, or its content is not as the schema says.
    """
    text = str(name)
    user_file = text.endswith(SPACE_SUFFIXES)
    if not user_file and text not in shipped_spaces():
        raise ValueError(
            f"search space '{text}' does not exist{nearest(text, shipped_spaces())}: choose one of "
            f"{', '.join(shipped_spaces())}, or a file that ends in .yaml"
        )
    path = Path(text) if user_file else SPACE_DIR / f"{text}.yaml"
    spec = read_yaml(path)
    if not isinstance(spec, dict):
        raise ValueError(f"{path}: a search space must be a mapping of keys to values")
    if "extends" in spec:
        base_name = str(spec.pop("extends"))
        if base_name.endswith(SPACE_SUFFIXES):
            base_name = os.path.normpath(path.parent / base_name)  # relative to this file
        if base_name in _seen or len(_seen) == MAX_EXTENDS:
            raise ValueError(f"{path}: 'extends' goes in a circle or too far, at {base_name}")
        try:
            base = load_space_file(base_name, (*_seen, base_name))
        except ValueError as error:
            raise ValueError(f"{path}: extends: {error}") from error
        if "stages" in spec:
            base.pop("widths", None)  # they have one entry per stage of the base
        if base.get("widths"):  # else the base's would win over the keys given here
            base["widths"] = _inherited_widths(spec, base)
        for key in NESTED:  # a nested override gives only the keys that differ
            if isinstance(spec.get(key), dict) and isinstance(base.get(key), dict):
                spec[key] = {**base[key], **spec[key]}
        spec = {**base, "name": path.stem, **spec}  # without a name: not that of the base
    check_space(spec, str(path))
    return spec
