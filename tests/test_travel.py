"""Weights that come from and go to other tools: timm, the Hugging Face Hub, 8-bit ONNX."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_subnet_parts import living_network
from torch import nn

from model import (
    Preprocessing,
    SearchSpace,
    Subnet,
    build_supernet,
    extract_subnet,
    fold_batch_norms,
    load_architecture,
    load_preprocessing,
    load_space,
    load_subnet,
    save_weights,
)
from model.hub import export_hub, hub_class
from model.quantised import export_int8
from model.timm_weights import NETWORKS, copy_timm, start_supernet
from utils.model_card import ModelCard

CLASSES = tuple("abcdefghij")
EXPECTED = Preprocessing(
    input_size=8, resize=8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3), classes=CLASSES
)


def card(preprocessing: Preprocessing = EXPECTED) -> ModelCard:
    numbers = {"test top-1": "12.00 %"}
    return ModelCard(
        title="net",
        summary="A network",
        dataset="digits",
        numbers=numbers,
        preprocessing=preprocessing,
        made_with={"seed": "0"},
    )


def test_preprocessing_is_torchvisions() -> None:
    from torchvision.transforms import v2

    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8))
    p = Preprocessing(input_size=70, resize=80, mean=(0.5,) * 3, std=(0.2,) * 3, classes=("a",))
    steps = [v2.Resize(80), v2.CenterCrop(70), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    wanted = v2.Compose([*steps, v2.Normalize(p.mean, p.std)])(image)
    assert torch.allclose(p(image), wanted, atol=1e-6)
    assert Preprocessing.of(json.loads(json.dumps(p.values()))) == p
    old = {key: value for key, value in p.values().items() if key != "resize"} | {"input_size": 224}
    assert Preprocessing.of(old).resize == 256


def test_from_an_image_file_to_a_label(tmp_path: Path) -> None:
    net = living_network(load_space("nas_bench_macro", 8, 10))
    save_weights(net, tmp_path / "w.safetensors", EXPECTED)
    assert load_preprocessing(tmp_path / "w.safetensors") == EXPECTED
    Image.new("RGB", (30, 20), "red").save(tmp_path / "i.png")
    net.preprocessing = EXPECTED
    pixels = torch.tensor([1.0, 0, 0]).view(3, 1, 1).expand(3, 8, 8)
    images = (pixels - torch.tensor(EXPECTED.mean).view(3, 1, 1)) / torch.tensor(EXPECTED.std).view(
        3, 1, 1
    )
    with torch.no_grad():
        wanted = net(images[None]).softmax(1)[0]
    label, probability = net.classify(tmp_path / "i.png")
    assert label == CLASSES[int(wanted.argmax())]
    assert probability == pytest.approx(wanted.max().item(), rel=1e-5)
    with pytest.raises(ValueError, match="no preprocessing is known"):
        load_subnet("mobilenetv2_100").classify(tmp_path / "i.png")


@pytest.mark.parametrize("name", ["nas_bench_macro", "proxylessnas"])
def test_a_folder_for_the_hub_is_loaded_back(name: str, tmp_path: Path) -> None:
    space = load_space(name, 8, 10)
    net, images = living_network(space), torch.randn(2, 3, 8, 8)
    rng = np.random.default_rng(0)  # as living_network draws them
    architecture = np.array([rng.integers(n) for n in space.num_choices])
    export_hub(net, space, architecture, card(), tmp_path / "hub")
    assert {p.name for p in (tmp_path / "hub").iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
    }
    text = (tmp_path / "hub/README.md").read_text()
    assert text.startswith("---\nlibrary_name: oneshot_nas\n") and "12.00 %" in text
    again = load_subnet(tmp_path / "hub/config.json", tmp_path / "hub/model.safetensors")
    assert torch.equal(again(images), net(images)) and again.preprocessing == EXPECTED
    pytest.importorskip("huggingface_hub")
    hub = hub_class().from_pretrained(str(tmp_path / "hub")).eval()
    assert torch.equal(hub(images), net(images)) and hub.preprocessing == EXPECTED


def test_eight_bits_answer_as_floats_do(tiny: SearchSpace, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    import onnx

    net = living_network(tiny)
    images = torch.randn(64, 3, 8, 8)
    with torch.no_grad():
        labels = net(images).argmax(1)
    path = tmp_path / "n.onnx"
    lines = list(export_int8(fold_batch_norms(net), path, EXPECTED, [images], [(images, labels)]))
    assert "float32: validation top-1 100.00 %" in lines[0] and "int8" in lines[1]
    assert float(lines[1].split("top-1 ")[1].split(" %")[0]) > 80
    model = onnx.load(path)
    assert {n.op_type for n in model.graph.node} >= {"QuantizeLinear", "DequantizeLinear"}
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["resize"] == "8" and json.loads(metadata["classes"]) == list(CLASSES)


def timm_like(name: str, seed: int = 0) -> nn.Module:
    """timm's network with random weights, and batch norms that do something."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(seed)
    net = timm.create_model(name, num_classes=10)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 2)
            nn.init.uniform_(m.weight, 0.5, 1.5)
    return net.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_timms_networks_compute_the_same_here(name: str) -> None:
    theirs, images = timm_like(name), torch.randn(2, 3, 96, 96)
    space, architecture = load_architecture(NETWORKS[name], 96, 10)
    net = Subnet(space, architecture).eval()
    copy_timm(net, theirs, name)
    with torch.no_grad():
        wanted = theirs(images)
        assert wanted.std() > 0.01 and torch.allclose(net(images), wanted, atol=1e-5)

    supernet = build_supernet(space)
    start_supernet(supernet, theirs, name)
    path = extract_subnet(supernet, architecture, [])  # no batch: statistics are reset
    pairs = zip(path.state_dict().items(), net.state_dict().values(), strict=True)
    for (key, mine), tensor in pairs:
        assert "running" in key or "tracked" in key or torch.equal(mine, tensor), key
    if space.supernet == "multipath":  # others share the inner kernel
        layer = space.decode(architecture).index("k3_e6")
        other = supernet.choice_module(layer, space.layers[layer].choices.index("k5_e6"))
        shared = net.layers[layer].depthwise.conv.weight
        assert torch.equal(other.depthwise.conv.weight[:, :, 1:4, 1:4], shared)
    with pytest.raises(ValueError, match="is no network of"):
        start_supernet(build_supernet(load_space("nas_bench_macro", 32, 10)), theirs, name)


def test_another_structure_is_named() -> None:
    net = Subnet(*load_architecture("fbnet_c", 96, 10))
    with pytest.raises(ValueError, match=r"timm:spnasnet_100 (has|is) .*"):
        copy_timm(net, timm_like("spnasnet_100"), "spnasnet_100")
