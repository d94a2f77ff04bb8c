"""Architecture files: published networks by name, where a space's YAML is found, loading alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import yaml
from conftest import ROOT, TINY
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lookup_table.builder import load_table
from model import (
    Preprocessing,
    Subnet,
    architecture_record,
    count_params,
    describe,
    find_architecture,
    load_architecture,
    load_preprocessing,
    load_space,
    load_subnet,
    published_architectures,
    read_architecture,
    save_weights,
)
from model.describe import conv_shape

PROMISED = "proxyless_mobile proxyless_gpu fbnet_a fbnet_c spnasnet_100 mnasnet_100 spos".split()  # noqa: SIM905


def measured(net: nn.Module, size: int) -> tuple[int, int]:
    """MACs and params by PyTorch's counter, without computing anything."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.to("meta").eval()(torch.zeros(1, 3, size, size, device="meta"))
    return counter.get_total_flops() // 2, count_params(net)


@pytest.mark.parametrize("name", published_architectures())
def test_published_networks_cost_what_their_files_say(name: str) -> None:
    spec = read_architecture(find_architecture(name))
    space, architecture = load_architecture(name)
    wanted = spec["flops"], spec["params"]
    assert measured(Subnet(space, architecture), space.input_size) == wanted
    if name == "fbnet_c":  # of a space that extends another; tests/test_spaces.py has the others
        table = load_table(space)
        assert tuple(int(table.cost(architecture, m)) for m in ("flops", "params")) == wanted
    assert spec["source"] and all(name in spec["choices"] for name in space.decode(architecture))


TORCHVISION = {"mobilenet_v2": "mobilenetv2_100", "mnasnet1_0": "mnasnet_100"}
TIMM = {"fbnetc_100": "fbnet_c"}
SAME = ("mnasnet_100", "spnasnet_100", "mobilenetv2_100", "mobilenetv2_140")


@pytest.mark.parametrize("theirs", [*TORCHVISION, *TIMM, *SAME])
def test_published_networks_cost_what_other_libraries_do(theirs: str) -> None:
    spec = read_architecture(find_architecture({**TORCHVISION, **TIMM}.get(theirs, theirs)))
    if theirs in TORCHVISION:
        reference = torchvision.models.get_model(theirs, weights=None)
    else:
        reference = pytest.importorskip("timm").create_model(theirs)
    assert measured(reference, 224) == (spec["flops"], spec["params"])


def test_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {find_architecture(name).is_file() for name in PROMISED} == {True}
    with pytest.raises(ValueError, match=r"neither .* \(did you mean 'fbnet_c'\?\)"):
        find_architecture("fbnet-c")
    with pytest.raises(ValueError, match=r"cannot read .*gone\.yaml"):
        load_architecture(tmp_path / "gone.yaml")
    space, _ = load_architecture("fbnet_c", input_size=32, num_classes=10)
    assert (space.input_size, space.num_classes, space.style.expand_e1) == (32, 10, True)

    # the space's YAML: beside the architecture, then in the current folder
    facts = {"search_space": "mine.yaml", "input_size": 8, "num_classes": 10}
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "arch.yaml").write_text(yaml.safe_dump(facts | {"choices": ["k3_e3"] * 4}))
    shutil.copy(TINY, folder / "mine.yaml")
    monkeypatch.chdir(tmp_path)
    assert load_architecture("a/arch.yaml")[0].last_width == 32
    (tmp_path / "mine.yaml").write_text(TINY.read_text().replace("last: 32", "last: 48"))
    assert load_architecture("a/arch.yaml")[0].last_width == 32
    (folder / "mine.yaml").unlink()
    assert load_architecture("a/arch.yaml")[0].last_width == 48
    (tmp_path / "mine.yaml").unlink()
    with pytest.raises(ValueError, match=r"search space mine.yaml is neither in a nor in the curr"):
        load_architecture("a/arch.yaml")


def test_rows_for_figures() -> None:
    space, architecture = load_architecture("fbnet_a")
    rows = describe(space, architecture)
    assert [row.place for row in rows] == ["stem", *map(str, range(1, 23)), "head"]
    assert [row.kernel for row in rows[1:4]] == [0, 3, 3]
    second = rows[2]
    assert (second.name, second.in_chs, second.hidden, second.out_chs) == ("k3_e3", 16, 48, 24)
    assert (second.stride, second.in_size, second.out_size) == (2, 112, 56)
    assert (rows[0].hidden, rows[-1].hidden) == (None, None)  # plain convolutions
    assert rows[12].name == "k5_e1_g2" and rows[-1].in_size == 7
    assert {row.kernel for row in describe(*load_architecture("spos"))} == {1, 3, 5, 7}


def test_an_added_block_is_drawn_by_its_own_convolutions() -> None:
    """Not as a 3x3; one without convolutions as a plain box."""
    wide = nn.Sequential(nn.Conv2d(8, 40, 9), nn.ReLU(), nn.Conv2d(40, 16, 1))
    assert conv_shape(wide, 16) == (9, 40)
    assert conv_shape(nn.AvgPool2d(3), 16) == (None, 16)
    assert conv_shape(nn.Identity(), 16) == (0, 16)


def test_three_lines_load_a_network_with_model_utils_and_the_spaces(tmp_path: Path) -> None:
    torch.manual_seed(0)
    space = load_space("fbnet", 16, 10)
    net = Subnet(space, [0] * space.num_layers).eval()
    alone = tmp_path / "alone"
    for package in ("model", "utils"):
        shutil.copytree(ROOT / package, alone / package)
    shutil.copytree(ROOT / "config_file/search_space", alone / "config_file/search_space")
    facts = architecture_record(space, [0] * space.num_layers)
    (alone / "best_architecture.yaml").write_text(yaml.safe_dump(facts))
    preprocessing = Preprocessing(
        input_size=16, resize=16, mean=(0.5,) * 3, std=(0.2,) * 3, classes=("a", "b")
    )
    save_weights(net, alone / "weights.safetensors", preprocessing)
    images = torch.randn(2, 3, 16, 16)
    torch.save(images, alone / "images.pt")
    code = (
        "from model import load_subnet\n"
        'net = load_subnet("best_architecture.yaml", "weights.safetensors")\n'
        "import torch\n"
        'torch.save(net(torch.load("images.pt")).detach(), "logits.pt")\n'
        "assert not net.training\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=alone, check=True, timeout=120)
    assert torch.equal(torch.load(alone / "logits.pt"), net(images))
    assert load_preprocessing(alone / "weights.safetensors") == preprocessing


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    space, architecture = load_architecture("mnasnet_100", 8, 10)
    save_weights(Subnet(space, architecture), file)
    with pytest.raises(ValueError, match=r"w\.safetensors is of another architecture: .* absent"):
        load_subnet("fbnet_c", file)
    assert load_subnet("mnasnet_100", file).head.classifier.out_features == 10
    whole = file.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\xff" * 100):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"not a whole \.safetensors"):
            load_subnet("mnasnet_100", file)
    with pytest.raises(ValueError, match="do not exist"):
        load_subnet("mnasnet_100", tmp_path / "gone.safetensors")


def test_the_forms_of_arch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space = load_space("nas_bench_macro", 32, 10)
    rows, codes = [], [[0] * 8, [1] * 8, [2] * 8]
    table = load_table(space)
    for i, (code, top1) in enumerate(zip(codes, (50.0, 70.0, 70.0), strict=True)):
        flops, params = (int(table.cost(np.array(code), m)) for m in ("flops", "params"))
        rows.append(f"{i},0,{' '.join(space.decode(code))},{flops},{params},{top1}")
    folder = tmp_path / "runs/T"
    folder.mkdir(parents=True)
    best = architecture_record(space, np.array(codes[1])) | {"dataset": "cifar10"}
    (folder / "best_architecture.yaml").write_text(yaml.safe_dump(best))
    head = "index,round,architecture,flops,params,top1"
    (folder / "history.csv").write_text("\n".join([head, *rows]))
    forms = {
        "runs/T": 1,
        "runs/T:0": 0,
        "runs/T:2": 2,
        "runs/T#1": 1,  # of equals the cheaper
        "runs/T#2": 2,
        "runs/T#3": 0,
        " ".join(["k3_e3"] * 8): 1,
        "nas_bench_macro: " + " ".join(["k5_e6"] * 8): 2,
    }
    for name, wanted in forms.items():
        assert load_architecture(name)[1].tolist() == codes[wanted], name
    for name, words in {
        "runs/T:3": "indices 0 to 2",
        "runs/T#0": "ranks 1 to 3",
        "k3_e3 k3_e3": "those of no shipped space",
        "fbnet: k3_e3 k3_e3": "has 2 choices",
    }.items():
        with pytest.raises(ValueError, match=words):
            load_architecture(name)
    for damaged in ("index,round\n0,0", f"{head}\n0,0,x", f"{head}\n0,0,x,1,2,y"):
        (folder / "history.csv").write_text(damaged)
        with pytest.raises(ValueError, match=r"history\.csv is damaged"):
            load_architecture("runs/T#1")
