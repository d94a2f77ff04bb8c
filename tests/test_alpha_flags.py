"""Each flag of a differentiable run reaches the steps of its training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from conftest import TINY
from helpers import CPU, whole_budget
from torch.nn import functional as F

from config_file.arg_config.search_config import SearchConfig
from config_file.arg_config.sources import load_config
from lookup_table import Budget, BudgetCounts, LookupTable
from lookup_table.builder import load_table
from model import load_space
from search_strategy import STRATEGIES
from search_strategy.differentiable import Prior
from train_supernet import SupernetTask, new_supernet
from utils.training import Precision, Step

IMAGES, LABELS = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])


class OneBatch:
    """A loader of one batch of other images."""

    device = CPU

    def __iter__(self) -> Iterator:
        yield IMAGES.flip(0), LABELS

    def state_dict(self) -> dict:
        return {}


def config_of(*words: object) -> SearchConfig:
    config = load_config(SearchConfig, "", ["--dataset", "cifar10", *map(str, words)])
    space = load_space(config.space.search_space, 8, 10)
    return config.resolve(space, load_table(space), 1)


def task_of(folder: Path, *words: object) -> SupernetTask:
    config = config_of(*words)
    space = load_space(config.space.search_space, 8, 10)
    counts = BudgetCounts(load_table(space), "flops")
    budget = Budget(counts, None, counts.median)
    supernet = new_supernet(config, space, CPU)
    return SupernetTask(supernet, config, OneBatch(), budget, MagicMock(), folder)


def weight_step(task: SupernetTask, number: int, epoch: int) -> float:
    """Do a step of the weights and what follows it; return its loss beyond cross-entropy."""
    (done,) = task.backward(IMAGES, LABELS, Precision("off", CPU))
    task.after_step(Step(IMAGES, LABELS, epoch, number, 0.1, True), MagicMock())
    ce = F.cross_entropy(done.logits, LABELS).item()
    return done.loss.item() - ce


def test_the_temperature_falls_epoch_by_epoch(tmp_path: Path) -> None:
    task = task_of(
        tmp_path, "--search-space", TINY, "--sample-strategy", "gumbel", "--epochs", 5,
        "--temperature-init", 4, "--temperature-final", 0.25, "--a-warmup-epochs", 0,
    )  # fmt: skip
    found = []
    for epoch in range(5):
        task.start_epoch(epoch)
        found.append(task.sampler.temperature)
    assert found == pytest.approx([4, 2, 1, 0.5, 0.25])


@pytest.mark.parametrize(
    ("flags", "seen_by_alpha"), [(("--one-level",), IMAGES), ((), IMAGES.flip(0))]
)
def test_steps_of_thresholds(tmp_path: Path, flags: tuple, seen_by_alpha: torch.Tensor) -> None:
    """Dropout and no constraint in the warm-up; then both, and every second step one of alpha."""
    task = task_of(
        tmp_path, "--search-space", "singlepath", "--sample-strategy", "threshold", "--epochs", 3,
        "--a-warmup-epochs", 1, "--a-every", 2, "--indicator-dropout", 0.4, "--hc-loss", "abs",
        "--hc-weight", 3, "--label-smoothing", 0, *flags,
    )  # fmt: skip
    sampler, hardware = task.sampler, task.architecture.hardware
    with torch.no_grad():  # at 0 all gates are open
        sampler.alpha.copy_(torch.linspace(0.9, 1.1, sampler.alpha.numel()).view_as(sampler.alpha))
    task.start_epoch(0)
    assert sampler.dropout == 0.4
    assert weight_step(task, 2, 0) == pytest.approx(0, abs=1e-5)
    task.start_epoch(1)
    ratio = hardware.expected_cost(sampler.cost_probabilities()).item() / hardware.target
    assert weight_step(task, 3, 1) == pytest.approx(3 * abs(ratio - 1), rel=1e-4)
    seen = []
    task.supernet.register_forward_pre_hook(lambda net, inputs: seen.append(inputs[0]))
    before = sampler.alpha.detach().clone()
    weight_step(task, 5, 1)
    assert torch.equal(before, sampler.alpha) and len(seen) == 1
    weight_step(task, 6, 1)
    assert not torch.equal(before, sampler.alpha)
    assert torch.equal(seen[-1], seen_by_alpha)


ADAM = ("--a-optimizer", "adam", "--a-betas", "0.1,0.9", "--a-weight-decay", 0.03, "--a-lr", 0.07)
OPTIMIZER = lambda a: a.optimizer.param_groups[0]  # noqa: E731


@pytest.mark.parametrize(
    ("flags", "of", "value"),
    [
        (ADAM, lambda a: type(a.optimizer), torch.optim.Adam),
        (ADAM, lambda a: OPTIMIZER(a)["betas"], (0.1, 0.9)),
        (ADAM, lambda a: (OPTIMIZER(a)["weight_decay"], OPTIMIZER(a)["lr"]), (0.03, 0.07)),
        (("--a-optimizer", "sgd", "--a-momentum", 0.2), lambda a: OPTIMIZER(a)["momentum"], 0.2),
        (("--hc-loss", "l2"), lambda a: (a.hardware.kind, a.hardware.weight), ("l2", 0.005)),
        (("--hc-loss", "abs"), lambda a: (a.hardware.kind, a.hardware.weight), ("abs", 1)),
        (("--hc-loss", "hinge"), lambda a: (a.hardware.kind, a.hardware.weight), ("hinge", 1)),
        (("--hc-loss", "linear"), lambda a: (a.hardware.kind, a.hardware.weight), ("linear", 0.1)),
        (("--hc-loss", "log"), lambda a: (a.hardware.kind, a.hardware.weight), ("log", 0.1)),
        (("--hc-loss", "multiplicative"), lambda a: a.hardware.weight, 0.07),
        (("--hc-loss", "abs", "--hc-weight", 0.3), lambda a: a.hardware.weight, 0.3),
        (("--checkpoint-activations",), lambda a: a.checkpoint, True),
    ],
)
def test_flags_reach_the_architecture_steps(
    tmp_path: Path, flags: tuple, of: Callable, value: object
) -> None:
    words = ("--search-space", TINY, "--sample-strategy", "softmax", "--a-warmup-epochs", 0)
    assert of(task_of(tmp_path, *words, *flags).architecture) == value


@pytest.mark.parametrize(("flags", "gates"), [((), 2), (("--binary-gates", "all"), 4)])
def test_binary_gates_learn_two_or_all(tmp_path: Path, flags: tuple, gates: int) -> None:
    words = ("--search-space", TINY, "--sample-strategy", "binary", "--a-warmup-epochs", 0)
    task = task_of(tmp_path, *words, *flags)
    assert task.sampler.draw().used.sum(1).max() == gates


@pytest.mark.parametrize(
    ("when", "paths"), [("never", [0, 0]), ("warm-up", [1, 0]), ("always", [1, 1])]
)
def test_weights_learn_by_paths_when_they_are_to(
    tmp_path: Path, when: str, paths: list[int]
) -> None:
    words = ("--search-space", TINY, "--sample-strategy", "softmax", "--epochs", 2)
    task = task_of(tmp_path, *words, "--a-warmup-epochs", 1, "--weight-paths", when)
    found = []
    for epoch in range(2):
        task.start_epoch(epoch)
        (path,) = task.sampler.step_paths()
        found.append(int(isinstance(path, np.ndarray)))  # else weights [L, C]
    assert found == paths


@pytest.mark.parametrize(
    ("words", "decay"),
    [
        ("--temperature-decay 0.9", 0.9),
        ("--config FILE", 0.5),
        ("--config FILE --temperature-init 1 --temperature-final 0.04 --epochs 3", 0.2),
    ],
)
def test_a_typed_temperature_takes_the_place_of_a_files_decay(
    tmp_path: Path, words: str, decay: float
) -> None:
    (tmp_path / "f.yaml").write_text("temperature-decay: 0.5\n")
    flags = words.replace("FILE", str(tmp_path / "f.yaml")).split()
    gumbel = ("--search-space", TINY, "--sample-strategy", "gumbel")
    assert config_of(*gumbel, *flags).gumbel.temperature_decay == pytest.approx(decay)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("gumbel --temperature-decay 0.9 --temperature-final 0.5", "leave one out"),
        ("gumbel --temperature-init 0.05", "temperatures fall"),
        ("softmax --binary-gates all", "gates of binary"),
        ("softmax --hc-loss log_ratio --target-hc 0.5", "a --target-hc above 1"),
    ],
)
def test_flags_that_are_refused(words: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        config_of("--search-space", TINY, "--sample-strategy", *words.split())


@pytest.mark.parametrize(
    ("words", "ignored"),
    [
        ("softmax --hc-weight 2 --hc-loss abs --target-hc none", ["--hc-loss", "--hc-weight"]),
        ("softmax --hc-weight 2 --hc-loss log --target-hc none", []),
        ("softmax --weight-paths warm-up --a-warmup-epochs 0", ["--weight-paths"]),
        ("softmax --weight-paths always --a-warmup-epochs 0", []),
        ("gumbel --temperature-final 0.2 --hc-weight 2", []),
        ("uniform --hc-weight 2", ["--hc-weight"]),
    ],
)
def test_flags_without_effect_are_named(words: str, ignored: list[str]) -> None:
    config = config_of("--search-space", TINY, "--sample-strategy", *words.split())
    assert config.ignored_flags() == ignored


def test_who_has_seen_the_validation_images(tiny_table: LookupTable) -> None:
    learned = {"sampler": {"probabilities": torch.ones(4, 4) / 4}}
    for one_level in (False, True):
        state = {**learned, "config": {"one_level": one_level}}
        prior = Prior.read(state, STRATEGIES["differentiable"], Path())
        assert prior.validation_trained is not one_level
    for name, steered, said in (
        ("evolution", True, True),
        ("evolution", False, False),  # uniform paths: alpha was not there
        ("random", True, False),
    ):
        kind = STRATEGIES[name]
        probabilities = np.ones((4, 4)) / 4 if steered else None
        budget, rng = whole_budget(tiny_table), np.random.default_rng(0)
        strategy = kind(kind.Config(), budget, rng, probabilities)
        for trained in (True, False):
            finished = SimpleNamespace(validation_trained=trained)
            assert ("optimistic" in strategy.findings(finished).caveat) == (said and trained)
