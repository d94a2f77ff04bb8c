"""train_subnet.py as its users run it."""

from __future__ import annotations

import csv
import functools
import re
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY, Command, Main

import lookup_table.speed
import search
import train_subnet
import utils.checkpoint
from config_file.arg_config.sources import load_config
from config_file.arg_config.subnet_config import SubnetConfig
from model import load_architecture, load_subnet
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
