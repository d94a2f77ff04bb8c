"""Differentiable search: the constraint, resuming, every combination, and that it truly learns."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, Command
from helpers import CPU, NARROW, architecture_sampler, in_size, whole_budget
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn import functional as F

from config_file.arg_config.sampling_config import DIFFERENTIABLE, HC_WEIGHTS, AlphaConfig
from config_file.arg_config.search_config import SearchConfig
from config_file.arg_config.sources import load_config
from lookup_table import Budget, BudgetCounts, LookupTable
from lookup_table.builder import load_table
from model import SearchSpace, Supernet, load_architecture, load_space
from model.blocks import BlockStyle
from sampler.alpha import ArchitectureTraining
from sampler.hardware_loss import HC_LOSSES, HardwareLoss
from search_strategy import STRATEGIES
from search_strategy.differentiable import Prior
from search_strategy.evolution import EvolutionConfig, EvolutionSearch
from train_supernet import new_supernet, train
from utils.checkpoint import load_checkpoint
from utils.device import seed_everything

SAMPLERS = ("uniform", "fair", "softmax", "gumbel", "binary")
SEARCHES = ("random", "evolution", "differentiable")


class FewBatches:
    """A few batches of noise in a random order: a loader with nothing to load."""

    device = CPU

    def __init__(self, number: int = 2, size: int = 4, seed: int = 0) -> None:
        self.number, self.size = number, size
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.number

    def __iter__(self):
        for _ in range(self.number):
            yield (
                torch.randn(self.size, 3, 8, 8, generator=self.generator),
                torch.randint(10, (self.size,), generator=self.generator),
            )

    def state_dict(self) -> dict:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        self.generator.set_state(state["generator"])


class Writer:
    def add_scalar(self, tag: str, value: float, step: int) -> None:
        assert np.isfinite(value)

    def add_figure(self, *figure: object) -> None:
        pass

    add_text = add_figure


def space_of(config: SearchConfig) -> SearchSpace:
    return load_space(config.space.search_space, 8, 10, NARROW.get(config.space.search_space))


@functools.cache
def budget_of(space: SearchSpace) -> Budget:
    counts = BudgetCounts(load_table(space), "flops")
    return Budget(counts, None, counts.median)


def arguments(*flags: object) -> SearchConfig:
    words = ["--epochs", "2", "--a-warmup-epochs", "0", *map(str, flags)]
    config = load_config(SearchConfig, "", words)
    return config.resolve(space_of(config), None, 1)


def train_here(
    config: SearchConfig, path: Path, writer: Writer, batches: int = 2
) -> tuple[Supernet, Budget]:
    seed_everything(0)
    space = space_of(config)
    supernet = new_supernet(config, space, CPU)
    budget = budget_of(space)
    train(supernet, FewBatches(batches), config, path, writer, FewBatches(3, seed=1), budget)
    return supernet, budget


@pytest.mark.parametrize("space", NARROW)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_combination_runs_or_is_refused(space: str, sampler: str, tmp_path: Path) -> None:
    """A step of training, then each search on scores that need no network."""
    flags = ("--search-space", space, "--sample-strategy", sampler, "--population", 4)
    flags = (*flags, "--generation-num", 2, "--parent-num", 2, "--random-iteration", 4)
    if space == "singlepath" and sampler in ("softmax", "gumbel", "binary"):
        with pytest.raises(ValueError, match="superkernel"):
            arguments(*flags)
        return
    path = tmp_path / "c.pt"
    config = arguments(*flags, "--epochs", 1)
    _, budget = train_here(config, path, Writer(), batches=1)
    state = load_checkpoint(path)
    for search in SEARCHES:
        if search == "differentiable" and config.sampling.sample_strategy not in DIFFERENTIABLE:
            with pytest.raises(ValueError, match="architecture parameters"):
                arguments(*flags, "--search-strategy", search)
            with pytest.raises(ValueError, match="no architecture parameters"):
                Prior.read(state, STRATEGIES[search], path)
            continue
        kind = STRATEGIES[search]
        prior = Prior.read(state, kind, path).probabilities
        strategy = kind(config.strategies[search], budget, np.random.default_rng(0), prior)
        asked = strategy.ask()
        assert len(asked) and budget.contains(asked).all()
        while len(asked):
            strategy.tell(asked, asked.sum(1).astype(float))
            asked = strategy.ask()


SAMPLER = lambda c: c.sampling.sample_strategy  # noqa: E731
SECTION = lambda c: c.sampler_section  # noqa: E731
WEIGHT = lambda c: c.alpha.hc_weight  # noqa: E731
WARMUP = lambda c: c.alpha.a_warmup_epochs  # noqa: E731
DECAY = lambda c: c.gumbel.temperature_decay  # noqa: E731


@pytest.mark.parametrize(
    ("flags", "of", "value"),
    [
        ("", SAMPLER, "uniform"),
        ("--search-strategy gradient", SECTION, "gumbel-hard"),
        ("--search-strategy gradient --no-gumbel-hard", SECTION, "gumbel"),
        ("--search-strategy gradient --sample-strategy gumbel", SECTION, "gumbel"),
        ("--search-strategy gradient --sample-strategy differentiable", SECTION, "softmax"),
        ("--search-strategy gradient --search-space singlepath", SAMPLER, "threshold"),
        ("", lambda c: AlphaConfig().hc_loss, "l2"),
        ("--hc-loss l2", WEIGHT, 0.005),  # the seed's, of its own loss
        ("--hc-loss log_ratio", WEIGHT, 0.6),
        ("--hc-loss abs --hc-weight 0", WEIGHT, 0),
        ("", WEIGHT, 0.1),  # the digits recipe's, of its abs
        ("--hc-loss abs", WEIGHT, 0.1),
        ("--sample-strategy binary --epochs 50 --a-warmup-epochs 0.58", WARMUP, 29),  # 28.999...
        ("--sample-strategy binary --epochs 9 --a-warmup-epochs 4", WARMUP, 4),
        (
            "--dataset cifar10 --sample-strategy gumbel --epochs 90",
            DECAY,
            pytest.approx(0.956, abs=0.001),
        ),  # FBNet's, for its 90 epochs
        (
            "--dataset cifar10 --sample-strategy gumbel --epochs 7 --temperature-final 0.5",
            lambda c: 5 * DECAY(c) ** 6,
            pytest.approx(0.5),
        ),
        ("--temperature-decay 0.9", DECAY, 0.9),
    ],
)
def test_flags_that_depend_on_others(flags: str, of: Callable, value: object) -> None:
    assert of(arguments(*flags.split())) == value


def test_a_file_can_ask_for_soft_gumbel(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("search-strategy: gradient\ngumbel-hard: false\n")
    assert SECTION(arguments("--config", str(tmp_path / "c.yaml"))) == "gumbel"


@pytest.mark.parametrize(
    "flags",
    [
        ("softmax", "--a-optimizer", "adam", "--checkpoint-activations"),
        ("gumbel",),
        ("gumbel", "--gumbel-hard", "--a-optimizer", "adam"),
        ("binary",),
        ("threshold", "--search-space", "singlepath", "--a-warmup-epochs", 1),
        ("threshold", "--search-space", "singlepath", "--one-level", "--a-every", 3),
        ("uniform", "--search-space", "singlepath", "--sandwich"),
        ("uniform", "--sample-in-budget"),
    ],
)
def test_a_resumed_training_equals_an_uninterrupted_one(flags: tuple, tmp_path: Path) -> None:
    """Bit for bit; the architecture's images are in the middle of a pass at the interruption."""
    space = () if "--search-space" in flags else ("--search-space", TINY)
    config = arguments(*space, "--sample-strategy", *flags, "--epochs", 3)
    whole, _ = train_here(config, tmp_path / "whole.pt", Writer())
    parts, stop = tmp_path / "parts.pt", Writer()
    stop.add_scalar = lambda tag, value, step: 1 / (step < 2)  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        train_here(config, parts, stop)
    assert load_checkpoint(parts)["epoch"] == 1
    resumed, _ = train_here(config, parts, Writer())
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    states = [load_checkpoint(tmp_path / f"{n}.pt")["sampler"] for n in ("whole", "parts")]
    if "alpha" in states[0]:
        assert states[0]["alpha"].abs().sum() > 0
        assert torch.equal(states[0]["alpha"], states[1]["alpha"])


class ExpensiveIsGood(nn.Module):
    """A supernet whose cross-entropy falls with the cost of its choices."""

    def __init__(self, table: LookupTable) -> None:
        super().__init__()
        costs = torch.from_numpy(table.costs["flops"]).float()
        self.gain = costs / costs.max()

    def forward(self, x: Tensor, weights: Tensor, used=None, checkpoint: bool = False) -> Tensor:
        self.images = x
        good = 1.5 * (weights * self.gain).sum() - 1
        return torch.stack([good, -good]).expand(len(x), 2)


class MostlyZero(FewBatches):
    """Two labels of ten are wrong, so that the cross-entropy has a floor."""

    def __iter__(self):
        for _ in range(self.number):
            yield torch.zeros(10, 3, 8, 8), torch.tensor([0] * 8 + [1] * 2)


def training_of(
    table: LookupTable,
    kind: str = "softmax",
    target: int | None = None,
    hc_loss: str = "abs",
    weight: float = 0.0,
    *,
    supernet: nn.Module | None = None,
    images: FewBatches | None = None,
    adam_lr: float | None = None,
    **options: int,
) -> ArchitectureTraining:
    """Architecture steps on a supernet without weights, by SGD unless there is an `adam_lr`."""
    sampler = architecture_sampler(kind, table.num_choices)
    optimizer = (
        torch.optim.Adam([sampler.alpha], adam_lr, betas=(0.5, 0.999))
        if adam_lr
        else torch.optim.SGD([sampler.alpha], 0.1)
    )
    hardware = HardwareLoss(table, "flops", target, hc_loss, weight)
    supernet, images = supernet or ExpensiveIsGood(table), images or MostlyZero()
    flags = AlphaConfig(**{"a_warmup_epochs": 0, **options})
    return ArchitectureTraining(sampler, supernet, images, optimizer, hardware, flags)


def test_architecture_steps_touch_alpha_only(tiny: SearchSpace, tiny_table: LookupTable) -> None:
    # aligned choices are one function at first, which gives alpha no gradient
    config = arguments("--search-space", TINY, "--supernet-init", "independent")
    supernet = new_supernet(config, tiny, CPU)
    training = training_of(tiny_table, supernet=supernet, images=FewBatches(), a_warmup_epochs=1)
    alpha, mask = training.sampler.alpha, training.sampler.mask
    before = {k: v.clone() for k, v in supernet.named_parameters()}
    training.step(0)  # warm-up
    assert (alpha == 0).all()
    training.step(1)
    assert (alpha[mask] != 0).any() and (alpha[~mask] == 0).all()
    assert all(p.grad is None and torch.equal(p, before[k]) for k, p in supernet.named_parameters())


@pytest.mark.parametrize(
    ("kind", "hc_loss"),
    [("softmax", "abs"), ("gumbel", "abs"), *(("binary", hc_loss) for hc_loss in HC_LOSSES)],
)
def test_a_larger_weight_means_a_lower_expected_cost(
    kind: str, hc_loss: str, tiny_table: LookupTable
) -> None:
    """Target: the cheapest network, so that cross-entropy and constraint pull apart."""
    table = in_size(tiny_table, 100)  # tens of millions, as real ones are
    low, high = table.range("flops")
    # logarithms of costs differ less than costs do, squares of millions more
    scale = {"log_ratio": 3, "l2": 0.01, "multiplicative": 0.5}.get(hc_loss, 1)
    costs = []
    for weight in (0.0, 0.03, 0.3, 3.0):
        training = training_of(table, kind, low, hc_loss, scale * weight, adam_lr=0.05)
        late = []
        for step in range(160):
            training.step(0)
            if step >= 100:
                late.append(training.summary()["expected_cost"] * 1e6)
        costs.append(np.mean(late))
    assert all(a > b for a, b in itertools.pairwise(costs)), costs
    assert costs[0] - costs[-1] > 0.2 * (high - low)


def test_hardware_losses_are_their_formulas(tiny_table: LookupTable) -> None:
    """Costs, squares and logarithms are of millions, for MACs and for nanoseconds alike."""
    table = in_size(tiny_table, 100)
    p, ce, target = torch.full((4, 4), 0.25), torch.tensor(2.0), 30_000_000
    cost = (table.fixed["flops"] + 0.25 * float(table.costs["flops"].sum())) / 1e6
    expected = {
        "l2": 2 + 0.6 * (cost - 30) ** 2,
        "abs": 2 + 0.6 * abs(cost / 30 - 1),
        "hinge": 2 + 0.6 * max(0.0, cost / 30 - 1),
        "linear": 2 + 0.6 * (cost / 30 - 1),
        "log": 2 + 0.6 * np.log(cost),
        "log_ratio": 2 * (np.log(cost) / np.log(30)) ** 0.6,
        "multiplicative": 2 * (cost / 30) ** 0.6,
    }
    assert expected.keys() == HC_LOSSES.keys() == HC_WEIGHTS.keys()
    for kind, value in expected.items():
        loss = HardwareLoss(table, "flops", target, kind, 0.6)
        assert loss(ce, p).item() == pytest.approx(value, rel=1e-6)
        assert loss.expected_cost(p).item() == pytest.approx(1e6 * cost)
    without = [HardwareLoss(table, "flops", None, kind, 0.6)(ce, p) for kind in ("log", "abs")]
    assert [x.item() for x in without] == pytest.approx([expected["log"], 2])  # log has no target


@pytest.mark.parametrize(
    ("factor", "hc_loss"), [(1, "abs"), (20, "abs"), (200, "abs"), (200, "l2")]
)
def test_default_weights_hold_the_expected_cost(
    factor: int, hc_loss: str, tiny_table: LookupTable
) -> None:
    """abs in spaces of every size, l2 in large ones: within 5 %, though every MAC pays."""
    table = in_size(tiny_table, factor)
    target = BudgetCounts(table, "flops").median
    training = training_of(table, "softmax", target, hc_loss, HC_WEIGHTS[hc_loss], adam_lr=0.02)
    for _ in range(300):
        training.step(0)
    assert training.summary()["expected_over_target"] == pytest.approx(1, abs=0.05)


def test_every_nth_weight_step_has_an_architecture_step(tiny_table: LookupTable) -> None:
    training = training_of(tiny_table, a_warmup_epochs=1, a_every=3)
    changed = []
    for number in range(1, 11):
        before = training.sampler.alpha.detach().clone()
        training.step(number // 4, number)
        if not torch.equal(before, training.sampler.alpha):
            changed.append(number)
    assert changed == [6, 9]  # 3 is in the warm-up


def test_one_level_trains_on_the_batches_of_the_weights(tiny_table: LookupTable) -> None:
    """And draws none of the validation images, whose loader does not move."""
    training = training_of(tiny_table, one_level=True)
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 0, 0])
    training.step(0, 1, (images, labels))
    assert training.supernet.images is images and (training.sampler.alpha != 0).any()
    assert training.batches.drawn == 0


def test_an_epochs_numbers_are_means_over_its_steps(tiny_table: LookupTable) -> None:
    """CE and constraint apart, as computed by hand from the parameters before each step."""
    training = training_of(tiny_table, "softmax", 200_000, "abs", 2.0)
    sampler, by_hand = training.sampler, []
    for _ in range(3):
        p = sampler.probabilities()
        (images, labels), *_ = MostlyZero()
        ce = F.cross_entropy(training.supernet(images, p), labels)
        constraint = 2 * (training.hardware.expected_cost(p) / 200_000 - 1).abs()
        (gradient,) = torch.autograd.grad(ce + constraint, [sampler.alpha])
        by_hand.append([ce.item(), constraint.item(), gradient.norm().item()])
        training.step(0)
    numbers = training.summary()
    found = [numbers[name] for name in ("ce", "constraint", "gradient_norm")]
    assert found == pytest.approx(np.mean(by_hand, axis=0), rel=1e-4)
    other = training_of(tiny_table, "softmax", 200_000, "abs", 2.0)
    other.load_state_dict(training.state_dict())
    assert other.summary() == numbers
    training.end_epoch()
    assert "ce" not in training.summary()


PLANTED = (2, 0, 1, 2)


class Noisy(nn.Module):
    """Passes a fifth of the signal, drowned in noise of the signal's size."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.2 * x + x.detach().std() * torch.randn_like(x)


class PlantedSupernet(Supernet):
    """Of each layer only the planted choice passes the signal; nothing in it needs training."""

    def build_layer(self, layer: int, style: BlockStyle) -> nn.Module:
        choices = range(len(self.space.layers[layer].choices))
        return nn.ModuleList(nn.Identity() if c == PLANTED[layer] else Noisy() for c in choices)

    def forward(self, x: Tensor, path, used=None, checkpoint: bool = False) -> Tensor:
        self.stem, self.first, self.head = nn.Identity(), nn.Identity(), nn.Flatten()
        return super().forward(x, path, used, checkpoint)


class Stripes(FewBatches):
    """Class c is a one at position c of ten."""

    def __iter__(self):
        for _ in range(self.number):
            labels = torch.randint(10, (32,), generator=self.generator)
            yield 3 * F.one_hot(labels, 10).float().view(32, 10, 1, 1), labels


@pytest.mark.parametrize("kind", ["softmax", "gumbel", "gumbel_hard", "binary", "binary_all"])
def test_the_planted_architecture_is_found(
    kind: str, tiny: SearchSpace, tiny_table: LookupTable
) -> None:
    torch.manual_seed(0)
    supernet, images = PlantedSupernet(tiny), Stripes(10)
    training = training_of(tiny_table, kind, supernet=supernet, images=images, adam_lr=0.05)
    for _ in range(300):
        training.step(0)
    assert tuple(training.sampler.probabilities().argmax(1).tolist()) == PLANTED


def test_a_prior_steers_mutation(tiny: SearchSpace, tiny_table: LookupTable) -> None:
    """Mutated layers follow the prior; a certain choice is all that they become."""
    budget = whole_budget(tiny_table)
    prior = np.array([[0.7, 0.1, 0.2, 0.0], [0.1, 0.2, 0.3, 0.4], [0, 0, 1, 0], [1, 0, 0, 0]])
    strategy = EvolutionSearch(
        EvolutionConfig(generation_num=3, population=20, parent_num=4, mutation_prob=1.0),
        budget,
        np.random.default_rng(0),
        prior,
    )
    strategy.tell(strategy.ask(), np.arange(20.0))
    mutants = strategy.mutants(8000)
    for column, row in zip(mutants.T, prior, strict=True):
        assert np.bincount(column, minlength=4) / 8000 == pytest.approx(row, abs=0.03)


def test_search_command(command: Command, tmp_path: Path) -> None:
    """The contract's files; the architecture is the most probable one within the budget."""
    flags = ("--search-space", TINY, "--device", "cpu", "--epochs", 2, "--batch-size", 128)
    flags = (*flags, "--sample-strategy", "gumbel", "--hc-weight", 0.1, "--title", "d")
    done = command("search.py", "--search-strategy", "gradient", *flags)
    run = tmp_path / "runs" / "d"
    for name in ("history.csv", "pareto.png", "unconstrained_architecture.yaml", "supernet.pt"):
        assert (run / name).stat().st_size > 0
    assert "without a budget" in done.stdout
    for text in ("entropy of choices", "of the target", "these images trained the architecture"):
        assert text in " ".join(done.stdout.split())
    assert "little more than a random network" in " ".join(done.stdout.split()), "no warning"
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    parts = ("entropy_share", "expected_over_target", "ce", "constraint", "gradient_norm")
    assert {f"arch/{part}" for part in (*parts, "temperature")} <= set(events.Tags()["scalars"])
    assert "arch/network/text_summary" in events.Tags()["tensors"]
    log = (run / "log.txt").read_text()
    assert "epoch 2: " in log and "of uniform entropy, E/T " in log and " skips: " in log
    space, found = load_architecture(run / "best_architecture.yaml")
    counts = BudgetCounts(load_table(space), "flops")
    budget = Budget(counts, None, counts.median)
    p = load_checkpoint(run / "supernet.pt")["sampler"]["probabilities"].double().numpy()
    inside = budget.enumerate()
    assert found.tolist() == max(inside, key=lambda a: p[range(4), a].prod()).tolist()
    # its probabilities are the mutation prior of an evolution, and read at another budget
    again = ("--checkpoint", run / "supernet.pt", "--device", "cpu", "--no-random-control")
    evolution = ("--generation-num", 2, "--population", 4, "--parent-num", 2, "--title", "e")
    command("search.py", *again, *evolution)
    command("search.py", *again, "--search-strategy", "differentiable", "--target-hc", 0.2)
