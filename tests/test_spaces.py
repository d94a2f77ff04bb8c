"""The search spaces against published networks, hand-computed counts and their YAML schema."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import TINY
from helpers import independent_counts

from lookup_table.builder import load_table
from model import Subnet, build_supernet, load_architecture, load_space
from model.space_file import SPACE_DIR, shipped_spaces

DATA = Path(__file__).parent / "data"
PUBLISHED = json.loads((DATA / "published.json").read_text())  # each entry names its source
PUBLISHED += [  # the same network in another space
    entry | {"search_space": "proxylessnas", "name": "spnasnet_100 in proxylessnas"}
    for entry in PUBLISHED
    if entry["name"] == "spnasnet_100"
]


@pytest.mark.parametrize("entry", PUBLISHED, ids=[entry["name"] for entry in PUBLISHED])
def test_published_networks_to_the_unit(entry: dict) -> None:
    """By the table and by the built network."""
    space = load_space(
        entry["search_space"], entry["input_size"], entry["num_classes"], entry.get("widths")
    )
    architecture = space.encode(entry["choices"])
    table = load_table(space)
    published = entry["macs"], entry["params"]
    assert (table.cost(architecture, "flops"), table.cost(architecture, "params")) == published
    assert independent_counts(space, architecture) == published


def test_nas_bench_macro_to_the_unit_in_one_call() -> None:
    """Every 55th of the half of the benchmark at hand (xiusu/NAS-Bench-Macro, CVPR 2021)."""
    entries = json.loads((DATA / "nas_bench_macro_sample.json").read_text())
    architectures = np.array([[int(digit) for digit in key] for key in entries])
    table = load_table(load_space("nas_bench_macro", 32, 10))
    for metric in ("flops", "params"):
        published = [entry[metric] for entry in entries.values()]
        assert table.cost(architectures, metric).tolist() == published


HAND_COUNTED = {
    "proxylessnas": 6**6 * 7**15,  # six stages begin without skip
    "fbnet": 9**16 * 8**6,  # layer 1 (16 to 16 channels) may be skipped too
    "spos": 4**20,
    "singlepath": 4**5 * 5**15 * 1,  # the last layer is fixed
    "nas_bench_macro": 3**8,
    "fbnet_hwnas": 9**16 * 8**6,  # a variant of fbnet
}


def test_sizes_of_the_spaces() -> None:
    assert {name: load_space(name).size for name in shipped_spaces()} == HAND_COUNTED


@pytest.mark.parametrize("name", shipped_spaces())
def test_ranges_are_those_of_the_smallest_and_largest_network(name: str) -> None:
    space = load_space(name, 32, 10)
    table = load_table(space)
    for index, metric in enumerate(("flops", "params")):
        rows = [row[:n] for row, n in zip(table.costs[metric], space.num_choices, strict=True)]
        ends = [np.array([f(row) for row in rows]) for f in (np.argmin, np.argmax)]
        assert table.range(metric) == tuple(independent_counts(space, e)[index] for e in ends)


@pytest.mark.parametrize("name", ["proxylessnas", "fbnet", "spos", "singlepath"])
def test_small_images_are_not_downsampled_to_nothing(name: str) -> None:
    """ImageNet strides on 32 px would leave 1x1; the CIFAR form leaves 4x4 (SPOS: 4x4)."""
    space = load_space(name, 32, 10)
    assert space.stem_stride == 1 and space.layers[0].in_size == 32
    first_down = next(layer for layer in space.layers if layer.stride == 2)
    assert first_down.in_size == 32
    assert space.last_size == 4
    with torch.no_grad():
        subnet = Subnet(space, np.zeros(space.num_layers, dtype=int)).eval()
        x = subnet.layers(subnet.first(subnet.stem(torch.zeros(1, 3, 32, 32))))
    assert x.shape[2:] == (4, 4)
    assert load_space(name, 224, 10).last_size == 7


@pytest.mark.parametrize("name", shipped_spaces())
@pytest.mark.parametrize("size", [8, 33, 65])
def test_any_input_size_and_class_count(name: str, size: int, rng: np.random.Generator) -> None:
    space = load_space(name, size, 3)
    supernet = build_supernet(space).eval()
    with torch.no_grad():
        logits = supernet(torch.randn(2, 3, size, size), rng.integers(0, space.num_choices))
    assert logits.shape == (2, 3) and logits.isfinite().all()


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        (["k3_e3"] * 3, "has 3 choices, but .* has 4"),
        (["k3_e3", "k3_e3", "skip", "k3_e3"], "layer 3 of 4: choice 'skip' is not allowed there"),
        (["k3_e3", "k9_e3", "k3_e3", "k3_e3"], "layer 2 of 4: choice 'k9_e3' is unknown"),
        ([1, 2, 3, 4], "list of choice names"),
    ],
)
def test_bad_architectures_name_layer_and_choice(tiny, choices: list, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        tiny.encode(choices)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("extends: proxylessnas\nlst: 3", r"unknown key 'lst' \(did you mean 'last'\?\)"),
        ("extends: proxylesnas", "did you mean 'proxylessnas'"),
        ("extends: proxylessnas\nlast: many", "'last' must be an integer"),
        ("extends: proxylessnas\nchoices: [k3_e3, k4_e3]", "'choices' must be a list"),
        ("extends: proxylessnas\nwidths: [8, 8]", "widths must be 9 positive integers"),
        ("extends: proxylessnas\nactivation: gelu", "'activation' must be one of"),
        ("extends: singlepath\nchoices: [shuffle_k3]", "not a slice of an MBConv superkernel"),
        ("name: x", "is missing"),
        ("- 1", "must be a mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_the_schema_rejects_what_it_does_not_know(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=says) as error:
        load_space(file)
    assert "mine.yaml" in str(error.value)


def test_overrides_of_another_space(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "extends: fbnet\nchoices: [k3_e1, k5_e6, skip]\nwidth_mult: 0.5\nlast: 1504\n"
        "activation: relu6\nbn: {eps: 0.001}\nexpand_e1: true\n"
    )
    space = load_space(file, 32, 10)
    assert space.size == 3**16 * 2**6
    # MobileNetV2's rounding by hand: 16 24 32 64 112 184 352 halved, at least 90 %
    assert space.widths == (8, 8, 16, 16, 32, 56, 96, 176, 1504)
    block = build_supernet(space).layers[0][0]
    assert block.expand.conv.weight.shape == (8, 8, 1, 1)
    assert isinstance(block.expand.act, torch.nn.ReLU6) and block.expand.bn.eps == 0.001


def test_architecture_files_of_another_kind(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    head = f"search_space: {TINY}\ninput_size: 8\nnum_classes: 10\n"
    file.write_text(head + "choices: [k3_e3, k3_e3, k3_e3, k3_e6]\ntop1: 3\nsource: me\n")
    assert load_architecture(file)[1].tolist() == [0, 0, 0, 1]
    file.write_text(head + "choices: k3_e3\n")
    with pytest.raises(ValueError, match=r"a.yaml: 'choices' must be of type list"):
        load_architecture(file)
    file.write_text("search_space: fbnet\ninput_size: 8\nnum_classes: 10\nchoices: [k3_e3]\n")
    with pytest.raises(ValueError, match=r"a.yaml: architecture has 1 choices, but fbnet has 22"):
        load_architecture(file)


def test_overrides_of_a_space_with_widths(tmp_path: Path) -> None:
    """A run folder's space lists its widths; those that are given win over it, the rest stay."""
    content = yaml.safe_load(TINY.read_text())
    default = load_space(TINY, 8, 10).widths
    mine = [2 * width for width in default]
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(content | {"widths": mine}))
    file = tmp_path / "mine.yaml"
    for text, wanted in {
        "last: 64": [*mine[:-1], 64],
        "stem: {width: 6}\nlast: 64": [6, *mine[1:-1], 64],
        "stem: {stride: 2}": mine,
        "activation: relu6": mine,
    }.items():
        file.write_text(f"extends: base.yaml\n{text}\n")
        assert list(load_space(file, 8, 10).widths) == wanted
    base = yaml.safe_load((SPACE_DIR / "proxylessnas.yaml").read_text())
    widths = [2 * width for width in load_space("proxylessnas", 8, 10).widths]
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base | {"widths": widths}))
    for text, wanted in {
        "first: {width: 4}": [widths[0], 4, *widths[2:]],
        "first: null": [widths[0], *widths[2:]],
        f"stages: {yaml.safe_dump(base['stages'], default_flow_style=True)}": [
            w // 2 for w in widths
        ],
    }.items():
        file.write_text(f"extends: base.yaml\n{text}\n")
        assert list(load_space(file, 8, 10).widths) == wanted


@pytest.mark.parametrize("with_conv", [True, False])
def test_thresholds_and_expansion_1(tmp_path: Path, with_conv: bool) -> None:
    """Without a conv it is no slice of a larger expansion, which a gate could close."""
    (tmp_path / "s.yaml").write_text(
        f"extends: singlepath\nchoices: [k3_e1, k5_e1, k3_e3, k5_e3, skip]\n"
        f"expand_e1: {str(with_conv).lower()}\n"
    )
    supernet = build_supernet(load_space(tmp_path / "s.yaml", 8, 10, [8] * 9))
    if with_conv:
        return supernet.check_thresholds()
    with pytest.raises(ValueError, match="expand_e1: true"):
        supernet.check_thresholds()
