"""The papers' recipes, and the flags they need against torch's own and hand-written references."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY
from helpers import all_codes
from PIL import Image
from scipy.stats import chisquare
from test_data_augment import coded_images, loaders
from torch import Tensor, nn
from torchvision.transforms import v2

from config_file.arg_config.fields import values_of
from config_file.arg_config.search_config import SearchConfig
from config_file.arg_config.sources import load_config
from config_file.arg_config.subnet_config import SUBNET_RECIPES, SubnetConfig
from config_file.arg_config.supernet_config import TrainSupernetConfig
from config_file.arg_config.training_config import RecipeConfig
from data import DATASETS
from data.augment import Augmentation
from lookup_table import Budget, BudgetCounts
from model import build_supernet, load_space
from model.blocks import residual_blocks
from sampler.hardware_loss import HC_LOSSES
from sampler.uniform import draw_from_bins
from train_supernet import new_supernet
from utils.optim import build_optimizer, build_scheduler, decay_groups
from utils.training import Optimisation, Pass

SEARCHES = sorted((ROOT / "config_file" / "search").glob("*.yaml"))
RETRAININGS = sorted(p for p in SUBNET_RECIPES.glob("*.yaml") if p.stem not in DATASETS)
CPU = torch.device("cpu")


@pytest.mark.parametrize("file", SEARCHES, ids=lambda p: p.stem)
def test_a_recipe_of_a_supernet_loads(file: Path) -> None:
    words = ["--config", str(file)]
    trained = load_config(TrainSupernetConfig, "", words).resolved_sampling(False)
    searched = load_config(SearchConfig, "", words).resolved_sampling(False)
    assert trained.training == searched.training and trained.sampling == searched.sampling
    if not file.stem.startswith("nas_bench_macro"):  # a paper's
        assert trained.training.grad_clip == 0 and trained.training.warmup_epochs == 0


@pytest.mark.parametrize("file", RETRAININGS, ids=lambda p: p.stem)
def test_a_recipe_of_a_retraining_loads(file: Path) -> None:
    config = load_config(SubnetConfig, "", ["--arch", "fbnet_a", "--config", str(file)])
    values = values_of(config)
    assert values["grad_clip"] == 0 and not values["zero_init"]
    for name in ("ema_decay", "cutmix", "mixup", "drop_path", "randaugment", "warmup_epochs"):
        assert values[name] == 0, name


def test_proxylessnas_constraint_pulls_as_the_code_does_at_its_target() -> None:
    """The code's ((log E / log 300e6) ** 0.3), of single MACs; here E is in millions."""
    words = ["--config", str(ROOT / "config_file" / "search" / "proxylessnas.yaml")]
    config = load_config(SearchConfig, "", words)
    target, weight = config.budget.target_hc, config.alpha.hc_weight

    def pull(loss: Callable[[Tensor], Tensor]) -> float:
        share = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)  # of the target
        loss(share).backward()
        return share.grad.item()

    ours = pull(lambda x: HC_LOSSES[config.alpha.hc_loss](1.0, x * target, target, weight))
    theirs = pull(lambda x: ((x * 300e6).log() / math.log(300e6)) ** 0.3)
    assert ours == pytest.approx(theirs, rel=1e-3)


def test_paths_are_not_clipped_by_default() -> None:
    def clip(*words: str) -> float | None:
        config = load_config(TrainSupernetConfig, "", words)
        return config.resolved_sampling(False).training.grad_clip

    fake = "--dataset", "fake"
    assert [clip(*fake, "--sample-strategy", s) for s in ("uniform", "fair")] == [0, 0]
    assert clip(*fake, "--sample-strategy", "softmax") == 5
    assert clip(*fake, "--grad-clip", "2") == 2 and clip() == 5  # digits' recipe


def stepped(make, gradients: Tensor) -> Tensor:
    """A parameter after as many steps as there are gradients."""
    p = nn.Parameter(torch.ones(gradients.shape[1]))
    optimizer = make([p])
    for g in gradients:
        p.grad = g.clone()
        optimizer.step()
    return p.detach()


@pytest.mark.parametrize("nesterov", [True, False])
def test_sgd_equals_torch(nesterov: bool) -> None:
    gradients = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    ours = stepped(
        lambda p: build_optimizer("sgd", p, 0.1, 0.9, 0.01, nesterov=nesterov), gradients
    )
    plain = {"momentum": 0.9, "weight_decay": 0.01, "nesterov": nesterov, "foreach": False}
    theirs = stepped(lambda p: torch.optim.SGD(p, 0.1, **plain), gradients)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_rmsprop_by_its_formula() -> None:
    gradients = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    ours = stepped(
        lambda p: build_optimizer("rmsprop", p, 0.1, 0.8, 0.01, alpha=0.7, eps=0.03), gradients
    )
    p, square, moving = np.ones(4), np.zeros(4), np.zeros(4)
    for g in gradients.double().numpy():
        g = g + 0.01 * p
        square = 0.7 * square + 0.3 * g**2
        moving = 0.8 * moving + g / (np.sqrt(square) + 0.03)
        p = p - 0.1 * moving
    assert ours.numpy() == pytest.approx(p, abs=1e-5)


def test_steps_of_a_fraction_of_an_epoch() -> None:
    """0.97 every 2.4 epochs of 5 steps, a staircase: MnasNet's, which Single-Path NAS takes."""
    staircase = {"lr_scheduler": "step", "decay_step": 2.4, "decay_ratio": 0.97}
    recipe = RecipeConfig(epochs=20, warmup_epochs=0, **staircase)
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], 1.0)
    (factor,) = build_scheduler(optimizer, recipe, 5).lr_lambdas
    rates = [factor(step) for step in range(40)]
    assert rates == pytest.approx([0.97 ** (step * 10 // 120) for step in range(40)])


@pytest.mark.parametrize("decay_all", [True, False])
def test_what_is_decayed(decay_all: bool) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = build_optimizer("sgd", decay_groups(net, decay_all), 0.5, 0.0, 0.2)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for p, old in zip(net.parameters(), before, strict=True):
        assert torch.allclose(p, old * (0.9 if decay_all or p.dim() > 1 else 1.0))


@pytest.mark.parametrize("kind", [0, 1], ids=["memory", "streaming"])
def test_color_jitter_is_torchvisions_with_a_seed_per_image(kind: int) -> None:
    jitter = (0.4, 0.4, 0.4, 0.1)
    loader = loaders(12, Augmentation(color_jitter=jitter))[kind]
    ((_, draws),) = loader.plan(0)
    state = torch.get_rng_state()
    images, _ = next(iter(loader))
    assert torch.equal(state, torch.get_rng_state())
    pixels = coded_images(1)[0]
    original = Image.fromarray(pixels) if kind else torch.from_numpy(pixels).permute(2, 0, 1)
    for image, seed in zip(images, draws.seed.tolist(), strict=True):
        torch.manual_seed(seed)
        expected = v2.ColorJitter(*jitter)(original)
        assert torch.equal(image, v2.functional.pil_to_tensor(expected) if kind else expected)
    assert len({image.numpy().tobytes() for image in images}) == 12


def test_paths_of_bins_are_uniform_over_bins_then_within(tiny, tiny_table) -> None:
    counts = BudgetCounts(tiny_table, "flops")
    low, high = int(0.7 * counts.median), int(1.2 * counts.median)
    codes = all_codes(tiny)
    costs = tiny_table.cost(codes, "flops")
    edges = np.linspace(low, high, 5)
    inside = [(costs >= a) & (costs <= b) for a, b in itertools.pairwise(edges)]
    inside = [mask for mask in inside if mask.any()]
    expected = np.mean([mask / mask.sum() for mask in inside], axis=0)
    assert len({mask.sum() for mask in inside}) > 1  # else it is uniform over all of them
    paths = draw_from_bins(Budget(counts, low, high), 4)(20_000, np.random.default_rng(0))
    place = {code.tobytes(): i for i, code in enumerate(codes.astype(np.int64))}
    seen = np.bincount([place[path.tobytes()] for path in paths], minlength=len(codes))
    assert not seen[expected == 0].any()
    assert chisquare(seen[expected > 0], 20_000 * expected[expected > 0]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("words", "zero"),
    [
        ("--supernet-init aligned", True),
        ("--supernet-init aligned --no-zero-init", False),
        ("--supernet-init independent", False),
        ("--supernet-init independent --zero-init", True),
    ],
)
def test_residual_branches_start_at_zero_where_asked(words: str, zero: bool) -> None:
    config = load_config(TrainSupernetConfig, "", ["--search-space", str(TINY), *words.split()])
    supernet = new_supernet(config, load_space(TINY, 8, 10), CPU)
    scales = [block.project.bn.weight for block in residual_blocks(supernet)]
    assert scales and all(bool((scale == 0).all()) == zero for scale in scales)


class FourBatches:
    device = CPU

    def __len__(self) -> int:
        return 4


def test_the_share_of_clipped_steps() -> None:
    """Of the gradients 1, 2, 3, 4, clipped at 2.5, two are longer."""
    net = nn.Linear(1, 1, bias=False)
    recipe = load_config(TrainSupernetConfig, "", ["--grad-clip", "2.5"]).training
    run = Optimisation(net, FourBatches(), recipe)
    for length in (1.0, 2.0, 3.0, 4.0):
        net.weight.grad = torch.full((1, 1), length)
        passes = [Pass(torch.tensor(1.0), torch.zeros(2, 1))]
        run.step(passes, torch.zeros(2, dtype=torch.long), 1, False)
    assert run.meter.read()[2] == 50
    state = run.meter.state_dict()
    run.meter.load_state_dict({"sums": state["sums"], "images": 8})  # of an older checkpoint
    assert run.meter.read()[2] == 50


def test_a_warm_up_that_fills_the_training_is_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "oneshot_nas")
    for epochs, said in ((3, False), (2, True)):
        recipe = RecipeConfig(
            epochs=epochs, warmup_epochs=2, optimizer="sgd", lr=0.1, weight_decay=0
        )
        Optimisation(nn.Linear(1, 1), FourBatches(), recipe)
        assert ("a warm-up of 2 epochs fills all 2" in caplog.text) == said


def test_momentum_moves_the_ring_of_a_superkernel_in_a_smaller_step() -> None:
    """As docs/performance.md says: the ring's gradient is 0 then, not None."""
    torch.manual_seed(0)
    space = load_space("singlepath", 8, 10)
    supernet = build_supernet(space)
    optimizer = build_optimizer("sgd", supernet.parameters(), 0.1, 0.9, 0.0)
    images = torch.randn(4, 3, 8, 8)
    kernel = supernet.layers[0].depthwise.conv.weight
    moved = []
    for name in ("k5_e6", "k3_e6"):
        path = [layer.choices.index("k3_e6") for layer in space.layers]
        path[0] = space.layers[0].choices.index(name)
        optimizer.zero_grad(set_to_none=True)
        supernet(images, path).square().sum().backward()
        before = kernel.detach().clone()
        optimizer.step()
        moved.append((kernel.detach() - before)[:, :, 0].abs().sum().item())
    assert kernel.grad is not None and not kernel.grad[:, :, 0].any()
    assert moved[1] > 0
