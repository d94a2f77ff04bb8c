"""The parts of train_subnet.py, each against something independent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import load_splits
from helpers import NARROW
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss
from torch import nn
from torch.nn import functional as F

from model import (
    Preprocessing,
    SearchSpace,
    Subnet,
    add_drop_path,
    build_supernet,
    fold_batch_norms,
    load_space,
    zero_residuals,
)
from model.export import check_onnx_packages, export_onnx, export_torch
from model.supernet_file import load_from_supernet
from search_strategy.evaluator import Evaluator
from utils.checkpoint import save_checkpoint
from utils.classifier import build_mixing, distillation_loss
from utils.draw import DrawnBlock, network_figure, plot_confusion
from utils.evaluation import evaluate
from utils.plots import save_png


def living_network(space: SearchSpace, seed: int = 0) -> Subnet:
    """Random choices, and batch norms that do something."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = Subnet(space, [rng.integers(n) for n in space.num_choices])
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 2)
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, 0, 0.1)
    return net.eval()


@pytest.mark.parametrize("name", NARROW)
def test_folding_batch_norms_changes_nothing(name: str) -> None:
    net = living_network(load_space(name, 16, 10)).double()
    folded = fold_batch_norms(net)
    images = torch.randn(2, 3, 16, 16, dtype=torch.double)
    assert torch.allclose(net(images), folded(images), rtol=1e-9)
    assert any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())


def test_scores_equal_scikit_learns() -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 5, (70,))
    logits = torch.randn(70, 5) + 2 * F.one_hot(labels, 5)
    batches = list(zip(logits.split(32), labels.split(32), strict=True))
    scores = evaluate(nn.Identity(), batches, 5)
    answers = logits.argmax(1)
    assert scores.images == 70
    assert scores.top1 == pytest.approx(100 * accuracy_score(labels, answers))
    assert np.array_equal(scores.confusion.numpy(), confusion_matrix(labels, answers))
    assert scores.loss == pytest.approx(log_loss(labels, logits.softmax(1)), rel=1e-5)


@pytest.mark.parametrize("name", ["tiny", "singlepath"])
def test_a_path_taken_out_of_its_supernet_scores_as_in_the_search(
    name: str, tiny: SearchSpace, tmp_path: Path
) -> None:
    space = tiny if name == "tiny" else load_space("singlepath", 8, 10)
    torch.manual_seed(0)
    supernet = build_supernet(space)
    splits = load_splits("digits", None, 8, 32, 90)
    calibration = [next(iter(splits.calibration))[0]]
    with torch.no_grad():  # weights that answer something
        for m in supernet.modules():
            if isinstance(m, nn.Linear):
                m.weight.mul_(30)
    rng = np.random.default_rng(1)
    architecture = np.array([rng.integers(n) for n in space.num_choices])
    score = Evaluator(supernet, calibration, splits.validation)(architecture[None])[0]

    keys = ("optimizer", "scheduler", "sampler", "loader")
    state = {"supernet": supernet.state_dict(), "epoch": 1, "facts": {"a": 1}, "config": {}}
    save_checkpoint(tmp_path / "s.pt", **state, **{key: {} for key in keys})
    net = Subnet(space, architecture)
    load_from_supernet(net, space, architecture, tmp_path / "s.pt", {"a": 1}, calibration)
    assert evaluate(net, splits.validation, 10).top1 == pytest.approx(score)
    with pytest.raises(ValueError, match="has a 1, this run 2"):
        load_from_supernet(net, space, architecture, tmp_path / "s.pt", {"a": 2}, calibration)


def test_distillation_by_its_formula() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(6, 4).double(), torch.randn(6, 4).double()
    p, q = (teacher / 3).softmax(1), (student / 3).softmax(1)
    wanted = 9 * (p * (p / q).log()).sum() / 6
    assert distillation_loss(student, teacher, 3.0).item() == pytest.approx(wanted.item())
    assert distillation_loss(student, student, 3.0).item() == pytest.approx(0, abs=1e-12)


def test_mixing() -> None:
    torch.manual_seed(0)
    labels = torch.arange(4)
    images = labels.view(4, 1, 1, 1).expand(4, 3, 8, 8).float()
    same, targets = build_mixing(0, 0, 4)(images, labels)
    assert same is images and targets is labels
    for mixup, cutmix in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
        mix = build_mixing(mixup, cutmix, 4)
        for _ in range(5):
            mixed, targets = mix(images, labels)
            assert torch.allclose(targets.sum(1), torch.ones(4))
            # images are their labels, so the mean pixel is the mean label
            wanted = (targets * torch.arange(4)).sum(1)
            assert torch.allclose(mixed.mean((1, 2, 3)), wanted, atol=1e-5)


def test_drop_path_drops_whole_branches_and_keeps_the_mean(tiny: SearchSpace) -> None:
    torch.manual_seed(0)
    net = Subnet(tiny, [1, 1, 1, 1])
    keys = list(net.state_dict())
    assert add_drop_path(net, 0.4) == 3 and list(net.state_dict()) == keys
    rates = [m.p for m in net.modules() if type(m).__name__ == "StochasticDepth"]
    assert rates == pytest.approx([0.1, 0.2, 0.4])  # layer 3 changes shape: no residual
    block = net.layers[3].eval()
    x = torch.randn(1, 16, 4, 4).expand(4000, -1, -1, -1)
    branch = (block(x) - x)[0]
    block.project.drop_path.train()
    dropped = block(x) - x
    share = (dropped.flatten(1).abs().amax(1) < 1e-6).float().mean().item()
    assert share == pytest.approx(0.4, abs=0.03)
    assert torch.allclose(dropped.mean(0), branch, atol=0.06 * branch.abs().max().item())


def test_residual_branches_can_start_at_zero(tiny: SearchSpace) -> None:
    net = Subnet(tiny, [1, 1, 1, 1])
    zero_residuals(net)
    x = torch.randn(2, 16, 4, 4)
    assert torch.equal(net.layers[3](x), x)
    assert net.layers[2].project.bn.weight.min() == 1  # changes the shape: no residual


def test_exports_run_and_carry_the_preprocessing(tmp_path: Path) -> None:
    """With SPOS's blocks; test_subnet_command.py exports MBConvs."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    import onnxruntime

    net = fold_batch_norms(living_network(load_space("spos", 8, 10, NARROW["spos"])))
    facts = Preprocessing(
        input_size=8, resize=9, mean=(0.1, 0.2, 0.3), std=(1, 1, 1), classes=("a", "b")
    )
    assert export_onnx(net, tmp_path / "n.onnx", facts) < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "n.onnx")
    images = torch.randn(5, 3, 8, 8)
    logits = session.run(None, {"images": images.numpy()})[0]
    assert np.allclose(logits, net(images).detach().numpy(), atol=1e-5)
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["mean"] == "[0.1, 0.2, 0.3]" and metadata["classes"] == '["a", "b"]'
    assert metadata["resize"] == "9"

    assert export_torch(net, tmp_path / "n.pt2", facts) < 1e-5
    extra = {"preprocessing.json": ""}
    program = torch.export.load(tmp_path / "n.pt2", extra_files=extra)
    assert torch.allclose(program.module()(images), net(images), atol=1e-5)
    assert '"classes": ["a", "b"]' in extra["preprocessing.json"]


def test_an_export_that_differs_is_not_written(
    tiny: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = living_network(tiny)
    monkeypatch.setattr("model.export.TOLERANCE", -1.0)
    with pytest.raises(ValueError, match=r"logits differ .* was not written"):
        facts = Preprocessing(input_size=8, resize=8, mean=(0,) * 3, std=(1,) * 3, classes=())
        export_torch(net, tmp_path / "n.pt2", facts)
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if "run" in name else name)
    with pytest.raises(ValueError, match=r"needs onnxruntime: pip install -r requirements-export"):
        check_onnx_packages()


def test_figures_are_pngs(tmp_path: Path) -> None:
    from matplotlib.image import imread

    blocks = [
        DrawnBlock("1", "added", kernel, 48, 8, 8, 2, 8, "#00ff00") for kernel in (3, 0, None)
    ]
    save_png(network_figure(blocks, "a"), tmp_path / "a.png")
    plot_confusion(tmp_path / "c.png", np.diag([3, 0, 2]), ["x", "yy", "zzz"], "c")
    for name in ("a.png", "c.png"):
        assert min(imread(tmp_path / name).shape[:2]) > 200
