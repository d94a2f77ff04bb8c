"""train_subnet.py as its users run it."""

from __future__ import annotations

import csv
import functools
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY, Command, Main

import lookup_table.speed
import search
import train_subnet
import train_supernet
import utils.checkpoint
from config_file.arg_config.sources import load_config
from config_file.arg_config.subnet_config import SubnetConfig
from data import DATASETS
from model import load_architecture, load_subnet, save_weights
from utils.checkpoint import load_checkpoint

ARCH = {"search_space": "tiny.yaml", "input_size": 8, "num_classes": 10}
FEW = ("--epochs", 1, "--batch-size", 256)


@pytest.fixture
def arch(tmp_path: Path) -> Path:
    """An architecture of the user's own space, in a folder other than the current one."""
    folder = tmp_path / "found"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(TINY.read_text())
    choices = ["k3_e3", "k5_e3", "k3_e6", "skip"]
    (folder / "best_architecture.yaml").write_text(yaml.safe_dump(ARCH | {"choices": choices}))
    return folder / "best_architecture.yaml"


@pytest.fixture
def subnet(main: Main) -> Main:
    return functools.partial(main, train_subnet)


def read_top1(text: str, part: str) -> float:
    return float(re.search(rf"{part}[a-z ]*:? (?:top-1 )?([\d.]+) %", text)[1])


def test_from_an_architecture_to_a_network_in_use(command: Command, arch: Path) -> None:
    pytest.importorskip("onnxruntime")
    flags = "--title net --epochs 4 --lr 0.01 --batch-size 64 --ema-decay 0.9"
    flags += " --no-augment"  # which takes longer to learn
    flags += " --export-onnx n.onnx --export-torch n.pt2"
    done = command("train_subnet.py", "--arch", arch, *flags.split())
    folder = arch.parent.parent / "runs" / "net"
    names = "best.pt last.pt weights.safetensors best_architecture.yaml README.md"
    for name in (*names.split(), "config.yaml", "log.txt", "architecture.png", "confusion.png"):
        assert (folder / name).stat().st_size > 0, name
    assert list((folder / "tensorboard").iterdir())
    assert done.stdout.count("logits differ from PyTorch's by at most") == 2

    spec = yaml.safe_load((folder / "best_architecture.yaml").read_text())
    assert spec["choices"] == ["k3_e3", "k5_e3", "k3_e6", "skip"] and spec["dataset"] == "digits"
    assert spec["top1"] > 50 and spec["test_top1"] == pytest.approx(
        read_top1(done.stdout, "test"), abs=0.01
    )
    card = (folder / "README.md").read_text()
    assert f"{spec['test_top1']:.2f} %" in card and "k3_e3 k5_e3 k3_e6 skip" in card
    assert torch.__version__ in card and "--config runs/net/config.yaml" in card

    # the run folder is all that is needed: not the folder the architecture came from
    arch.unlink()
    (arch.parent / "tiny.yaml").unlink()
    net = load_subnet(folder / "best_architecture.yaml", folder / "weights.safetensors")
    images = torch.randn(4, 3, 8, 8)
    program = torch.export.load(arch.parent.parent / "n.pt2").module()
    assert torch.allclose(net(images), program(images), atol=1e-4)


def test_evaluate_repeats_the_training_s_numbers(subnet: Main, arch: Path) -> None:
    subnet("--arch", arch, "--title", "net", "--lr", 0.01, *FEW)
    spec = yaml.safe_load(Path("runs/net/best_architecture.yaml").read_text())
    for weights in ("weights.safetensors", "best.pt"):
        out = subnet(
            "--arch", "runs/net/best_architecture.yaml", "--evaluate", f"runs/net/{weights}"
        )
        assert read_top1(out, "validation") == pytest.approx(spec["top1"], abs=0.01)
        assert read_top1(out, "test") == pytest.approx(spec["test_top1"], abs=0.01)
    assert list(Path("runs").iterdir()) == [Path("runs/net")]  # evaluation leaves no run
    out = subnet("--title", "again", "--config", "runs/net/config.yaml")
    assert read_top1(out, "test") == pytest.approx(spec["test_top1"], abs=0.01)


def test_evaluate_goes_by_what_the_weights_were_trained_on(subnet: Main, arch: Path) -> None:
    """Their mean and std, not those of the images at hand; other classes are an error."""
    subnet("--arch", arch, "--title", "net", "--lr", 0.01, *FEW)
    net = load_subnet("runs/net", "runs/net/weights.safetensors")
    other = replace(net.preprocessing, mean=(0.9,) * 3)
    save_weights(net, "other.safetensors", other)
    flags = ("--arch", "runs/net/best_architecture.yaml", "--evaluate")
    raw = DATASETS["digits"](None)
    with torch.no_grad():
        answers = net(torch.stack([other(x) for x in raw.test_images])).argmax(1).numpy()
    top1 = 100 * (answers == raw.test_labels).mean()
    assert read_top1(subnet(*flags, "other.safetensors"), "test") == pytest.approx(top1, abs=0.01)
    save_weights(net, "odd.safetensors", replace(other, classes=other.classes[::-1]))
    assert "their order differ" in subnet(*flags, "odd.safetensors", ok=False)


def test_a_network_starts_as_its_path_of_a_supernet_without_scales(
    subnet: Main, main: Main, tmp_path: Path, arch: Path
) -> None:
    """No residual branch starts at zero, though batch norms there have no weight to copy."""
    space = yaml.safe_load(TINY.read_text())
    space["bn"]["affine_in_supernet"] = False
    (arch.parent / "tiny.yaml").write_text(yaml.safe_dump(space))
    flags = ("--search-space", arch.parent / "tiny.yaml", "--title", "s", *FEW)
    main(train_supernet, *flags, "--supernet-init", "independent")
    subnet("--arch", arch, "--init-from", "runs/s/supernet.pt", "--title", "n", "--epochs", 0)
    net = load_subnet("runs/n", "runs/n/weights.safetensors")
    scales = [m.weight for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all((scale == 1).all() for scale in scales)


def test_a_resumed_training_equals_an_uninterrupted_one(
    subnet: Main, arch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, with everything that draws random numbers switched on."""
    flags = ("--arch", arch, "--epochs", 3, "--batch-size", 256, "--lr", 0.01, "--augment")
    flags += ("--ema-decay", 0.8, "--mixup", 0.5, "--cutmix", 0.5, "--drop-path", 0.3)
    flags += ("--dropout", 0.2, "--randaugment", 1, "--cutout", 2)
    subnet(*flags, "--title", "whole")

    class Stop(Exception):
        pass

    save = utils.checkpoint.save_checkpoint

    def stop_in_the_second_epoch(path: Path, *rest: object, **state: object) -> None:
        if state["epoch"] == 2:
            raise Stop
        save(path, *rest, **state)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(utils.checkpoint, "save_checkpoint", stop_in_the_second_epoch)
        subnet(*flags, "--title", "parts")
    arch.unlink()  # the run has its own copy
    subnet("--title", "parts", "--resume")
    for name in ("last.pt", "best.pt"):
        whole, parts = (
            load_checkpoint(f"runs/{run}/{name}", "subnet") for run in ("whole", "parts")
        )
        assert whole["best"] == parts["best"] and whole["epoch"] == parts["epoch"]
        assert torch.equal(whole["generators"]["cpu"], parts["generators"]["cpu"])
        for key in ("subnet", "averaged"):
            assert whole[key].keys() == parts[key].keys() and whole[key]
            for entry, tensor in whole[key].items():
                assert torch.equal(tensor, parts[key][entry]), entry
    weights = [Path(f"runs/{run}/weights.safetensors").read_bytes() for run in ("whole", "parts")]
    assert weights[0] == weights[1]


def test_inherited_weights_score_as_in_the_search(main: Main, subnet: Main) -> None:
    """--epochs 0: the search's own validation accuracy of its winner, to the image."""
    small = "--epochs 6 --batch-size 64 --random-iteration 4 --no-random-control --title s"
    main(search, "--search-strategy", "random", "--search-space", TINY, *small.split())
    inherited = ["--arch", "runs/s/best_architecture.yaml", "--init-from", "runs/s/supernet.pt"]
    subnet(*inherited, "--epochs", 0, "--title", "net")
    found, got = (
        yaml.safe_load(Path(f"runs/{run}/best_architecture.yaml").read_text())
        for run in ("s", "net")
    )
    assert got["top1"] == pytest.approx(found["top1"]) and got["choices"] == found["choices"]
    assert got["test_top1"] == pytest.approx(found["test_top1"])
    with open("runs/s/history.csv") as file:
        assert max(float(row["top1"]) for row in csv.DictReader(file)) == pytest.approx(got["top1"])
    # fine-tuning never ends below what it began with, on the validation images
    subnet(*inherited, "--title", "tuned", "--lr", 1e-6, *FEW)
    assert load_checkpoint("runs/tuned/best.pt", "subnet")["best"]["top1"] >= got["top1"]
    # a trained network teaches another, and other classes keep its features
    teacher = "--teacher runs/net/best_architecture.yaml"
    teacher += " --teacher-weights runs/net/weights.safetensors --title student"
    subnet("--arch", "mnasnet_100", *teacher.split(), *FEW)
    assert load_architecture("runs/student/best_architecture.yaml")[0].input_size == 8


def test_benchmark_and_list(subnet: Main, arch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup_table.speed, "SPEED_SECONDS", 0.01)
    out = subnet("--arch", arch, "--benchmark", "--eval-batch-size", 4)
    for way in ("as trained", "batch norms folded", "ONNX Runtime", "torch.export"):
        assert out.count(way) == 2
    assert out.count(" ×)") == 4 and "latency model: over 12 networks: rank correlation" in out
    assert "M MACs" in out and "M params" in out and not Path("runs").exists()
    lines = subnet("--list-architectures").splitlines()
    assert any(
        line.split()[:5] == ["fbnet_c", "fbnet_expand_e1", "224", "385.0", "5.6"] for line in lines
    )


def test_user_errors_are_one_line(subnet: Main, arch: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    torch.save({"x": 1}, other)
    damaged, net = tmp_path / "damaged", tmp_path / "net"
    for folder, text in ((damaged, ""), (net, "arch: a.yaml\n")):
        folder.mkdir()
        (folder / "config.yaml").write_text(text)
    cases = {
        (): "--arch is missing",
        ("--arch", "fbnet_d"): "did you mean 'fbnet_",
        ("--arch", arch, "--epochs", 0): "give that too",
        ("--arch", arch, "--teacher", "fbnet_c"): "belong together",
        ("--arch", arch, "--evaluate", "gone.safetensors"): "do not exist",
        ("--arch", arch, "--evaluate", other): "no format version",
        ("--arch", arch, "--init-from", other): "no format version",
        ("--arch", arch, "--export-torch", "gone/n.pt2"): "its folder does not exist",
        ("--arch", arch, "--batch-size", 5000): "1077 training images",
        ("--arch", arch, "--teacher", arch, "--teacher-weights", "gone.pt"): "does not exist",
        ("--arch", arch, "--benchmark", "--export-onnx", "n.onnx"): "give --evaluate WEIGHTS too",
        ("--arch", arch, "--init-from", tmp_path): "is a folder, without",
        ("--verify", damaged): "this is damaged",
        ("--verify", net): "this is a run of train_subnet.py",
        ("--arch", " ".join(["k3_e1_g2"] * 40)): "name the space",
    }
    for flags, words in cases.items():
        assert words in subnet(*flags, ok=False)
    assert not Path("runs").exists()


def test_where_dataset_and_input_size_come_from(arch: Path) -> None:
    def sizes(*flags: object) -> tuple[str, int, int]:
        data = load_config(SubnetConfig, "", list(map(str, flags))).data
        return data.dataset, data.input_size, data.eval_batch_size

    spec = yaml.safe_load(arch.read_text()) | {"input_size": 16, "dataset": "cifar10"}
    arch.write_text(yaml.safe_dump(spec))
    assert sizes("--arch", arch) == ("cifar10", 16, 512)
    assert sizes("--arch", arch, "--input-size", 24) == ("cifar10", 24, 512)
    assert sizes("--arch", arch, "--dataset", "digits") == ("digits", 8, 90)
    assert sizes("--arch", "fbnet_c", "--dataset", "cifar100") == ("cifar100", 32, 512)
    assert sizes("--arch", "fbnet_c", "--benchmark")[1] == 224
