"""Latency tables of other projects, turned into ours: `--import FORMAT FILE --save OUT.yaml`.

- `hw_nas_bench`: the pickle of HW-NAS-Bench (https://arxiv.org/abs/2103.10584), FBNet's part:
  metric (pixel3_latency) -> block -> cost, with blocks such as
  ConvBlock_H32_W32_Cin16_Cout16_exp1_kernel3_stride1_group1.
- `proxyless_lut`: the YAML of ProxylessNAS and Once-for-All: block -> mean in ms, such as
  expanded_conv-input:112x112x16-output:56x56x24-expand:3-kernel:3-stride:2-idskip:0.
- `singlepath_json`: the JSON of Single-Path NAS: layer 0..21 -> slice 0..3 -> ms.
- `block_times`: your own measurements of what `--export-blocks` wrote: times.csv (file,ms) beside
  its index.json.

The space says which blocks are wanted, and each is looked up by its name in the other project.
"""

from __future__ import annotations

import csv
import io
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from lookup_table.blocks import FIXED, INDEX_FILE
from lookup_table.table import LookupTable
from lookup_table.tables import check_fit
from lookup_table.user_table import millionths
from model.blocks import SKIPS, parse_mbconv
from model.space import SearchSpace
from utils.yaml_file import read_yaml, shown

MAX_BYTES = 1 << 28
SINGLEPATH_SLICES = {"k3_e3": "0", "k3_e6": "1", "k5_e3": "2", "k5_e6": "3"}
# ms of what is no searchable layer of 22, in nas-search/singlepath_supernet.py of its authors:
# stem, first block, last block (k3_e6) and head
SINGLEPATH_REST = 19.5999

ChoiceCosts = dict[tuple[int, str], object]  # (layer, choice) -> cost, of those that are not 0
Costs = tuple[ChoiceCosts, list[object]]  # and of fixed parts


class _NumberType:
    """numpy.dtype as a pickle describes it, for numbers only."""

    def __init__(self, code: str, *_: object) -> None:
        self.type = np.dtype(str(code))
        if self.type.kind not in "biuf":  # bool, int, unsigned, float
            raise pickle.UnpicklingError(f"numpy type {code!r} is no number")

    def __setstate__(self, state: tuple) -> None:
        if state[1] == ">":  # byte order, as dtype.__reduce__ states it
            self.type = self.type.newbyteorder(">")


def _number(kind: _NumberType, content: bytes) -> float | int:
    """Make a Python number of what a pickle holds of a numpy scalar."""
    return np.frombuffer(content, kind.type, count=1)[0].item()


class PlainUnpickler(pickle.Unpickler):
    """Unpickles lists, tuples, dicts, texts and numbers; whatever would run code is refused."""

    ALLOWED: Mapping[tuple[str, str], Callable] = {
        ("numpy", "dtype"): _NumberType,
        ("numpy.core.multiarray", "scalar"): _number,
        ("numpy._core.multiarray", "scalar"): _number,
    }

    def find_class(self, module: str, name: str) -> Callable:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, and not plain values only")
        return self.ALLOWED[module, name]


def read_plain_pickle(path: Path) -> object:
    """Read a pickle of plain values.

    Raises:
        ValueError: the file is unreadable, no pickle, or holds anything but plain values.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)  # one more tells a larger file from one of that size
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"cannot read {path}: it is larger than {MAX_BYTES / 2**20:g} MiB")
    try:
        return PlainUnpickler(io.BytesIO(content)).load()
    except Exception as error:  # a damaged pickle raises anything
        raise ValueError(f"{path} is not a pickle of plain values: {error}") from error


def _mbconv(space: SearchSpace, name: str) -> tuple[int, int, int]:
    if (block := parse_mbconv(name)) is None:
        raise ValueError(f"{space.name} has blocks ('{name}') that this format has no name for")
    return block


def _lookup(path: Path, known: Mapping, key: str) -> object:
    if key not in known:
        raise ValueError(f"{path} has no entry '{key}'; it is of another space or input size")
    return known[key]


def _hw_nas_bench(path: Path, space: SearchSpace, metric: str | None) -> Costs:
    content = read_plain_pickle(path)
    part = content.get("fbnet") if isinstance(content, dict) else None
    if not isinstance(part, dict) or not all(isinstance(v, dict) for v in part.values()):
        raise ValueError(f"{path} is not HW-NAS-Bench's: there is no 'fbnet' with its metrics")
    if metric is None or metric not in part:
        names = ", ".join(map(str, part))
        raise ValueError(f"{path}: name one of its metrics by --import-metric: {names}")
    known = part[metric]
    costs: ChoiceCosts = {}
    for i, la in enumerate(space.layers):
        shape = f"H{la.in_size}_W{la.in_size}_Cin{la.in_chs}_Cout{la.out_chs}"
        for name in la.choices:
            key = f"Skip_{shape}_stride{la.stride}"
            if name not in SKIPS:
                kernel, expansion, groups = _mbconv(space, name)
                key = f"ConvBlock_{shape}_exp{expansion}_kernel{kernel}_stride{la.stride}"
                key += f"_group{groups}"
            costs[i, name] = _lookup(path, known, key)
    if space.first_block is not None:
        raise ValueError(f"{path} is of FBNet, which has no fixed first block as {space.name} has")
    size, last, chs = space.last_size, space.last_width, space.layers[-1].out_chs
    fixed = [
        f"ConvNorm_H{space.input_size}_W{space.input_size}_Cin3_Cout{space.stem_width}_kernel3"
        f"_stride{space.stem_stride}_group1",
        f"ConvNorm_H{size}_W{size}_Cin{chs}_Cout{last}_kernel1_stride1_group1",
        f"AvgP_H{size}_W{size}_Cin{last}_Cout{last}_kernel{size}_stride1",
        f"FC_Cin{last}_Cout{space.num_classes}",
    ]
    return costs, [_lookup(path, known, key) for key in fixed]


def _proxyless_lut(path: Path, space: SearchSpace, metric: str | None) -> Costs:
    content = read_yaml(path)
    if not isinstance(content, dict) or not any("-input:" in str(key) for key in content):
        raise ValueError(f"{path} is no table of ProxylessNAS: no key such as 'Conv-input:…'")
    # Once-for-All's keys also say that there is no squeeze-and-excitation and no h-swish
    known = {str(key).removesuffix("-se:0-hs:0"): value for key, value in content.items()}

    def mean(key: str) -> object:
        value = _lookup(path, known, key)
        return value.get("mean") if isinstance(value, dict) else value

    def mbconv(name: str, size: int, in_chs: int, out_chs: int, stride: int, keeps: bool) -> str:
        out, (kernel, expansion, groups) = -(-size // stride), _mbconv(space, name)
        if groups != 1:
            raise ValueError(f"{space.name} has group convolutions, which {path} has no name for")
        return (
            f"expanded_conv-input:{size}x{size}x{in_chs}-output:{out}x{out}x{out_chs}-expand:"
            f"{expansion}-kernel:{kernel}-stride:{stride}-idskip:{int(keeps)}"
        )

    costs = {}
    for i, la in enumerate(space.layers):
        keeps = la.stride == 1 and la.in_chs == la.out_chs
        for name in la.choices:
            if name not in SKIPS:
                key = mbconv(name, la.in_size, la.in_chs, la.out_chs, la.stride, keeps)
                costs[i, name] = mean(key)
    whole, stem, size = (
        f"{px}x{px}" for px in (space.input_size, space.stem_size, space.last_size)
    )
    chs, last = space.layers[-1].out_chs, space.last_width
    fixed = [
        f"Conv-input:{whole}x3-output:{stem}x{space.stem_width}",
        f"Conv_1-input:{size}x{chs}-output:{size}x{last}",
        f"Logits-input:{size}x{last}-output:{space.num_classes}",
    ]
    if (first := space.first_block) is not None:
        px, chs = space.stem_size, space.stem_width
        fixed.append(mbconv(first, px, chs, space.first_width, 1, False))
    return costs, [mean(key) for key in fixed]


def _singlepath_json(path: Path, space: SearchSpace, metric: str | None) -> Costs:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path} as JSON: {error}") from error
    layers: list = [None]
    if isinstance(content, dict):
        layers = [content.get(str(i)) for i in range(22)]
    if not all(isinstance(layer, dict) for layer in layers):
        raise ValueError(f"{path} is not Single-Path NAS's: layers '0' to '21' with slices each")
    known = space.num_layers == 21 and "k3_e6" in space.layers[-1].choices
    if not known or space.supernet != "superkernel":
        raise ValueError(f"{path} is of Single-Path NAS's space; give --search-space singlepath")
    costs = {
        (i, name): _lookup(path, layers[i + 1], SINGLEPATH_SLICES[name])
        for i, layer in enumerate(space.layers)
        for name in layer.choices
        if name in SINGLEPATH_SLICES
    }
    last = costs[20, "k3_e6"]
    if isinstance(last, bool) or not isinstance(last, (int, float)) or last > SINGLEPATH_REST:
        raise ValueError(f"{path}: layer 21 costs {shown(last)}, and not up to {SINGLEPATH_REST}")
    return costs, [round(SINGLEPATH_REST - last, 9)]  # the rest has the last block, a layer here


def _is_block(block: object, space: SearchSpace) -> bool:
    """Tell whether a block of the index names parts of the space."""

    def is_part(row: object) -> bool:
        match row:
            case [int(layer), str(name)]:  # counted from 1
                return 1 <= layer <= space.num_layers and name in space.layers[layer - 1].choices
            case [part, str()]:
                return bool(part == FIXED)
        return False

    rows = block.get("rows") if isinstance(block, dict) else None
    return isinstance(rows, list) and all(map(is_part, rows))


def _block_times(path: Path, space: SearchSpace, metric: str | None) -> Costs:
    index_path = path.parent / INDEX_FILE
    try:
        index = json.loads(index_path.read_text(encoding="utf-8"))
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} needs {index_path} as --export-blocks wrote it: {error}"
        ) from error
    blocks = index.get("blocks") if isinstance(index, dict) else None
    if not isinstance(blocks, list) or not all(_is_block(block, space) for block in blocks):
        raise ValueError(f"{index_path} is not the index that --export-blocks writes")
    if rows[:1] != [["file", "ms"]] or any(len(row) != 2 for row in rows):
        raise ValueError(f"{path}: rows must be file,ms, and the first row says so")
    check_fit(index_path, index, space)
    times: dict[str, object] = {}
    for file, text in rows[1:]:
        try:
            times[file.strip()] = float(text)
        except ValueError:
            raise ValueError(f"{path}: {file}: {text!r} is not a number of milliseconds") from None
    costs: ChoiceCosts = {}
    fixed: list[object] = []
    for block in blocks:
        ms = _lookup(path, times, str(block.get("file")))
        for layer, name in block["rows"]:
            if layer == FIXED:
                fixed.append(ms)
            else:
                costs[layer - 1, name] = ms  # the index counts layers from 1
    return costs, fixed


FORMATS: dict[str, Callable[[Path, SearchSpace, str | None], Costs]] = {
    "hw_nas_bench": _hw_nas_bench,
    "proxyless_lut": _proxyless_lut,
    "singlepath_json": _singlepath_json,
    "block_times": _block_times,
}


def import_table(
    form: str, path: Path, space: SearchSpace, table: LookupTable, metric: str | None = None
) -> tuple[LookupTable, str]:
    """Return `table` with another project's costs, and the name of their metric.

    Args:
        form: a key of FORMATS.
        space: what the costs are of; each of its blocks must be in the file.
        metric: of a file that has several, such as pixel3_latency or fpga_energy.

    Raises:
        ValueError: the format is unknown, the file of another one or of another space, or a cost
            is no number.
    """
    if form not in FORMATS:
        raise ValueError(f"--import {form} is unknown; take one of {', '.join(FORMATS)}")
    found, parts = FORMATS[form](path, space, metric)
    costs = np.zeros((space.num_layers, space.max_choices), dtype=np.int64)
    for (i, name), value in found.items():
        where = f"{path}: layer {i + 1} of {space.num_layers}: choice '{name}'"
        costs[i, space.layers[i].choices.index(name)] = millionths(value, where)
    fixed = sum(millionths(part, f"{path}: stem or head") for part in parts)
    name = "energy" if metric and metric.endswith("energy") else "latency"
    source = {"device": metric or path.stem, "source": f"{path.name}, read as {form}"}
    unit = {"energy": "mJ", "latency": "ms"}[name]
    return table.with_metric(name, costs, fixed, unit, source), name
