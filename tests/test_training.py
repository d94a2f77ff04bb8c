"""Supernet training: resuming, schedules, sampling, what a step touches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, load_splits
from scipy.stats import chisquare
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, StepLR
from torch.utils.tensorboard import SummaryWriter

from config_file.arg_config.sources import load_config
from config_file.arg_config.supernet_config import TrainSupernetConfig
from config_file.arg_config.training_config import LR_SCHEDULERS, OPTIMIZERS, RecipeConfig
from model import load_space
from sampler import UniformSampler
from train_supernet import SupernetTask, new_supernet, train
from utils.acceleration import Precision
from utils.checkpoint import check_facts, load_checkpoint
from utils.device import seed_everything
from utils.optim import build_optimizer, build_scheduler, state_size
from utils.training import Optimisation, Pass

CPU = torch.device("cpu")


class NullWriter:
    def __init__(self) -> None:
        self.values: list[tuple[str, float, int]] = []

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.values.append((tag, value, step))


def arguments(*flags: object) -> TrainSupernetConfig:
    words = ["--search-space", str(TINY), *map(str, flags)]
    return load_config(TrainSupernetConfig, "", words)


def run_training(
    config: TrainSupernetConfig,
    path: Path,
    epochs_now: int | None = None,
    writer: NullWriter | None = None,
) -> nn.Module:
    """Train; with `epochs_now`, stop after so many epochs as if interrupted."""
    seed_everything(config.run.random_seed)
    size, seed = config.data.input_size, config.run.random_seed
    splits = load_splits("digits", None, size, config.training.batch_size, 128, 0.8, seed, CPU)
    supernet = new_supernet(config, load_space(TINY, size, 10), CPU)
    writer = writer or NullWriter()

    class Stop(Exception):
        pass

    def count_epochs(tag: str, value: float, step: int) -> None:
        writer.values.append((tag, value, step))
        if tag == "train/loss" and epochs_now is not None and step > epochs_now:
            raise Stop

    writer.add_scalar = count_epochs  # type: ignore[method-assign]
    try:
        train(supernet, splits.train, config, path, writer)  # type: ignore[arg-type]
    except Stop:
        assert load_checkpoint(path)["epoch"] == epochs_now
    return supernet


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path, optimizer: str) -> None:
    """Bit for bit, which needs the optimiser's, the schedule's and all random states."""
    config = arguments("--epochs", 3, "--optimizer", optimizer, "--lr", 0.01, "--batch-size", 256)
    whole = run_training(config, tmp_path / "whole.pt")
    run_training(config, tmp_path / "parts.pt", epochs_now=1)
    resumed = run_training(config, tmp_path / "parts.pt")
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_the_checkpoint_is_complete_and_safe_to_load(tmp_path: Path) -> None:
    config = arguments("--epochs", 1, "--optimizer", "adamw", "--lr", 0.01)
    run_training(config, tmp_path / "c.pt")
    state = torch.load(tmp_path / "c.pt", weights_only=True)
    assert state["optimizer"]["state"] and state["scheduler"]["last_epoch"] == 1077 // 32
    assert state["facts"]["dataset"] == "digits" and state["epoch"] == 1
    assert {p.name for p in tmp_path.iterdir()} == {"c.pt", "training.csv"}  # nothing temporary
    facts = {**state["facts"], "train_portion": 0.9}
    with pytest.raises(ValueError, match="--train-portion"):
        check_facts("c.pt", state["facts"], facts)


def test_training_learns(tmp_path: Path) -> None:
    config = arguments("--epochs", 8, "--lr", 0.01)
    supernet = run_training(config, tmp_path / "c.pt").eval()
    splits = load_splits("digits", None, 8, 64, 2000, 0.8, 0, CPU)
    images, labels = next(iter(splits.validation))
    path = [1, 1, 1, 1]
    with torch.no_grad():
        assert (supernet.train()(images, path).argmax(1) == labels).float().mean() > 0.6


@pytest.mark.parametrize(
    ("flags", "says"), [((), r"loss became .* --lr"), (("--on-nan", "skip"), "10th step in a row")]
)
def test_a_loss_that_explodes_is_a_clear_error(flags: tuple, says: str, tmp_path: Path) -> None:
    """And no checkpoint has weights that are not finite."""
    sgd = ("--epochs", 2, "--optimizer", "sgd", "--lr", 1e30, "--grad-clip", 0)
    with pytest.raises(ValueError, match=says):
        run_training(arguments(*sgd, *flags), tmp_path / "c.pt")
    assert not (tmp_path / "c.pt").exists()


def test_fp16_goes_on_after_a_step_that_is_left_out() -> None:
    net = nn.Linear(4, 2)
    config = arguments("--amp", "fp16", "--on-nan", "skip", "--optimizer", "sgd").training
    run = Optimisation(net, load_splits("digits", None, 8, 256, 90).train, config)
    kept = []
    for number, factor in enumerate((1, torch.nan, 1), 1):
        before = net.weight.detach().clone()
        run.optimizer.zero_grad(set_to_none=True)
        with run.precision.autocast():
            logits = net(torch.ones(8, 4))
        labels = torch.zeros(8, dtype=torch.long)
        loss = F.cross_entropy(logits.float(), labels) * factor
        run.precision.backward(loss)
        kept.append(run.step([Pass(loss, logits)], labels, number, False)[0])
        assert torch.equal(net.weight, before) != kept[-1]
    assert kept == [True, False, True]


@pytest.mark.parametrize("name", LR_SCHEDULERS)
def test_schedules_equal_torch(name: str) -> None:
    def schedule(make) -> list[float]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.4)
        scheduler, rates = make(optimizer), []
        for _ in range(40):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return rates

    recipe = RecipeConfig(
        epochs=8, lr_scheduler=name, warmup_epochs=0, decay_step=3.0, decay_ratio=0.5
    )
    ours = schedule(lambda o: build_scheduler(o, recipe, 5))
    theirs = {
        "cosine": lambda o: CosineAnnealingLR(o, 40),
        "step": lambda o: StepLR(o, 15, 0.5),
        "linear": lambda o: LinearLR(o, 1.0, 1e-9, 40),
    }[name]
    assert ours == pytest.approx(schedule(theirs), abs=1e-6)
    warm = schedule(lambda o: build_scheduler(o, replace(recipe, warmup_epochs=2), 5))
    assert warm[:10] == pytest.approx([0.04 * (i + 1) for i in range(10)])
    assert warm[10] == pytest.approx(0.4)


def test_uniform_sampling_is_uniform_over_allowed_choices() -> None:
    num_choices = np.array([6, 7, 1, 3])
    sampler = UniformSampler(num_choices, np.random.default_rng(0))
    paths = np.concatenate([sampler.step_paths() for _ in range(4000)])
    assert paths.shape == (4000, 4)
    for column, n in zip(paths.T, num_choices, strict=True):
        counts = np.bincount(column, minlength=n)
        assert len(counts) == n
        assert n == 1 or chisquare(counts).pvalue > 1e-4
    pairs = np.bincount(paths[:, 0] * 7 + paths[:, 1], minlength=42)  # layers are independent
    assert chisquare(pairs).pvalue > 1e-4


def test_a_training_starts_from_the_weights_of_one_of_smaller_images(tmp_path: Path) -> None:
    small = run_training(arguments("--epochs", 1), tmp_path / "small.pt")
    start = ("--init-from", tmp_path / "small.pt", "--input-size", 12)
    config = arguments("--epochs", 1, "--optimizer", "sgd", "--lr", 1e-12, *start)
    trained = run_training(config, tmp_path / "large.pt")
    for (name, p), q in zip(trained.named_parameters(), small.parameters(), strict=True):
        torch.testing.assert_close(p, q, msg=name)
    assert load_checkpoint(tmp_path / "large.pt")["facts"]["input_size"] == 12

    other = arguments("--train-portion", 0.5, *start)
    with pytest.raises(ValueError, match=r"portion 0.8, this run 0.5; fix --train-portion"):
        run_training(other, tmp_path / "other.pt")


def test_the_sandwich_smooths_labels_not_the_teacher(tmp_path: Path) -> None:
    """The largest path learns smoothed labels; the others learn its outputs as they are."""
    config = arguments("--sandwich", "--label-smoothing", 0.3, "--search-space", "singlepath")
    space = load_space("singlepath", 8, 10, [8] * 9)
    seed_everything(0)
    supernet = new_supernet(config, space, CPU)
    splits = load_splits("digits", None, 8, 32, 90, 0.8, 0, CPU)
    task = SupernetTask(supernet, config, None, None, SummaryWriter(str(tmp_path)), tmp_path)
    images, labels = next(iter(splits.train))
    (first, teacher, _), *others = task.backward(images, labels, Precision("off", CPU))
    smooth = torch.full((32, 10), 0.3 / 10)
    smooth[torch.arange(32), labels] += 0.7
    assert first.item() == pytest.approx(-(smooth * teacher.log_softmax(1)).sum(1).mean().item())
    assert len(others) == 3
    for loss, logits, _ in others:
        target = teacher.softmax(1)
        expected = -(target * logits.log_softmax(1)).sum(1).mean().item()
        assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam", "adamw"])
def test_the_planned_size_of_a_checkpoint_is_that_of_the_optimiser(name: str, momentum: float):
    weight = nn.Parameter(torch.ones(3, 5))
    optimizer = build_optimizer(name, [weight], 0.1, momentum, 0.0)
    weight.square().sum().backward()
    optimizer.step()
    kept = [x for x in optimizer.state[weight].values() if isinstance(x, Tensor) and x.dim()]
    assert len(kept) == state_size(name, momentum)
