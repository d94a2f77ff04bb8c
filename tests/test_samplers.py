"""Samplers against counts, chi-square tests, torch and the papers' formulas."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from helpers import all_codes, architecture_sampler, in_size, trained_like
from scipy.stats import chisquare
from torch import Tensor
from torch.nn import functional as F

from config_file.arg_config.sampling_config import AlphaConfig
from lookup_table import Budget, BudgetCounts, LookupTable
from lookup_table.builder import load_table
from model import SearchSpace, Supernet, build_supernet, load_space
from sampler import (
    ArchitectureSampler,
    FairSampler,
    GumbelSampler,
    Sampler,
    SandwichSampler,
    ThresholdSampler,
    UniformSampler,
    uniform,
)
from sampler.alpha import ArchitectureTraining
from sampler.hardware_loss import HardwareLoss

NUM_CHOICES = np.array([6, 7, 1, 3, 7])


def counts_of(paths: np.ndarray) -> list[np.ndarray]:
    return [np.bincount(c, minlength=n) for c, n in zip(paths.T, NUM_CHOICES, strict=True)]


def test_strict_fairness_is_exact(rng: np.random.Generator) -> None:
    """Each choice of a full layer once per step; of others, equal over the cycle, never 2 apart."""
    sampler = FairSampler(NUM_CHOICES, rng)
    seen = np.empty((0, 5), dtype=int)
    for step in range(1, 6 * 7 * 3 + 1):
        paths = sampler.step_paths()
        assert paths.shape == (7, 5)
        seen = np.concatenate([seen, paths])
        counts = counts_of(seen)
        for n, count in zip(NUM_CHOICES, counts, strict=True):
            assert count.max() - count.min() <= (7 % n != 0)
            if (7 * step) % n == 0:  # a whole number of permutations has been dealt
                assert (count == 7 * step // n).all()
        assert (np.sort(paths[:, [1, 4]], axis=0) == np.arange(7)[:, None]).all()
    pairs = np.bincount(seen[:, 1] * 7 + seen[:, 4], minlength=49)
    assert chisquare(pairs).pvalue > 1e-4  # layers are permuted independently


def test_in_budget_paths_are_those_that_the_budget_draws(tiny: SearchSpace, tiny_table) -> None:
    """Which are uniform (test_budget.py)."""
    counts = BudgetCounts(tiny_table, "flops")
    budget = Budget(counts, int(0.8 * counts.median), counts.median)
    sampler = UniformSampler(tiny.num_choices, np.random.default_rng(0), budget.sample)
    drawn = np.concatenate([sampler.step_paths() for _ in range(300)])
    ahead = np.random.default_rng(0)
    expected = np.concatenate([budget.sample(uniform.AHEAD, ahead) for _ in range(6)])
    assert np.array_equal(drawn, expected[:300])


def test_sandwich_has_the_largest_first_and_the_smallest_last() -> None:
    space = load_space("singlepath", 8, 10)
    paths = SandwichSampler(space, np.random.default_rng(0)).step_paths()
    assert space.decode(paths[0]) == ["k5_e6"] * 20 + ["k3_e6"]
    smallest = [x for _ in range(5) for x in ("k3_e3", "skip", "skip", "skip")] + ["k3_e6"]
    assert space.decode(paths[3]) == smallest
    assert paths.shape == (4, 21) and (paths[1] != paths[2]).any()


def restorable(kind: str, space: SearchSpace, table: LookupTable) -> Sampler:
    rng = np.random.default_rng(5)
    if kind == "uniform":
        return UniformSampler(space.num_choices, rng)
    if kind == "in_budget":
        draw = Budget(BudgetCounts(table, "flops"), None, None).sample
        return UniformSampler(space.num_choices, rng, draw)
    if kind == "fair":
        return FairSampler(np.array([5, 3, 2, 4]), rng)
    return architecture_sampler(kind, space.num_choices, 5)


@pytest.mark.parametrize("kind", ["uniform", "in_budget", "fair", "softmax", "gumbel", "binary"])
def test_a_restored_sampler_goes_on_the_same(kind: str, tiny, tiny_table) -> None:
    """In the middle of what was drawn ahead, and of a permutation that was dealt."""
    sampler, other = (restorable(kind, tiny, tiny_table) for _ in range(2))
    if isinstance(sampler, ArchitectureSampler):
        sampler.alpha = torch.randn(sampler.alpha.shape).requires_grad_()
        sampler.temperature = 2.5
    sampler.step_paths()
    other.load_state_dict(copy.deepcopy(sampler.state_dict()))
    for _ in range(70):
        for a, b in zip(sampler.step_paths(), other.step_paths(), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("hard", [False, True])
def test_gumbel_equals_torch_under_the_same_noise(hard: bool, monkeypatch) -> None:
    """Values and gradients, with a layer of fewer choices among full ones."""
    kind = "gumbel_hard" if hard else "gumbel"
    sampler = architecture_sampler(kind, np.array([4, 4, 3]), random_alpha=torch.float32)
    sampler.temperature = 0.7
    torch.manual_seed(3)
    noise = -torch.empty(3, 4).exponential_().log()
    monkeypatch.setattr(sampler, "gumbel_noise", lambda: noise)
    torch.manual_seed(3)
    logits = sampler.alpha.detach().clone()
    logits[2, 3] = -torch.inf
    logits.requires_grad_()
    expected = F.gumbel_softmax(logits, tau=0.7, hard=hard, dim=1)
    weights = sampler.draw().weights
    assert torch.allclose(weights, expected, atol=1e-6)
    values = torch.randn(3, 4)
    (weights * values).sum().backward()
    (expected * values).sum().backward()
    assert torch.allclose(sampler.alpha.grad, logits.grad, atol=1e-6)
    assert sampler.alpha.grad[2, 3] == 0


@pytest.mark.parametrize("kind", ["gumbel_hard", "binary", "binary_all", "softmax", "gumbel"])
def test_sampled_paths_follow_the_probabilities(kind: str) -> None:
    sampler = architecture_sampler(kind, NUM_CHOICES, 1, torch.float32)
    sampler.weight_paths = "always" if kind in ("softmax", "gumbel") else "never"
    paths = np.array([sampler.step_paths()[0] for _ in range(1500)])
    p = sampler.probabilities().detach().double().numpy()
    for row, count, n in zip(p, counts_of(paths), NUM_CHOICES, strict=True):
        expected = 1500 * row[:n] / row[:n].sum()
        assert n == 1 or chisquare(count, expected).pvalue > 1e-4


@pytest.mark.parametrize("kind", ["softmax", "gumbel", "gumbel_hard", "binary", "binary_all"])
def test_expected_cost_is_the_mean_over_all_architectures(kind: str, tiny, tiny_table) -> None:
    sampler = architecture_sampler(kind, tiny.num_choices, random_alpha=torch.float32)
    p, codes = sampler.probabilities().detach().double().numpy(), all_codes(tiny)
    expected = p[range(4), codes].prod(1) @ tiny_table.cost(codes, "flops")
    found = cost_of(tiny_table)(sampler.draw().probabilities)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def cost_of(table: LookupTable) -> Callable[[Tensor], Tensor]:
    return HardwareLoss(table, "flops", None, "abs", 0.0).expected_cost


def double_supernet(space: SearchSpace) -> Supernet:
    return trained_like(space).double().eval()  # eval: a loss that is smooth in the weights


def loss_of(supernet: Supernet, x: Tensor, weights: Tensor, used=None) -> Tensor:
    labels = torch.arange(len(x)) % 10
    return F.cross_entropy(supernet(x, weights, used), labels)


def numeric_slope(loss: Callable[[], Tensor], at: Tensor, *index: int) -> float:
    """The derivative of `loss` by one entry of `at`, a leaf that it reads, by differences."""
    values = []
    for step in (1e-6, -2e-6):  # of 1e-5, some meet a kink of ReLU6
        with torch.no_grad():
            at[index] += step
            values.append(loss().item())
    with torch.no_grad():
        at[index] += 1e-6
    return (values[0] - values[1]) / 2e-6


@pytest.mark.parametrize(
    ("kind", "hc_loss"),
    [
        *(("softmax", hc_loss) for hc_loss in ("abs", "l2", "log_ratio")),
        *(("gumbel", hc_loss) for hc_loss in ("hinge", "log", "multiplicative")),
    ],
)
def test_architecture_gradients_equal_finite_differences(
    kind: str, hc_loss: str, tiny, tiny_table, monkeypatch
) -> None:
    supernet, x = double_supernet(tiny), torch.randn(4, 3, 8, 8, dtype=torch.float64)
    sampler = architecture_sampler(kind, tiny.num_choices, random_alpha=torch.float64)
    sampler.temperature = 1.3
    noise = sampler.gumbel_noise()
    monkeypatch.setattr(sampler, "gumbel_noise", lambda: noise)
    table = in_size(tiny_table, 100)
    hardware = HardwareLoss(table, "flops", table.range("flops")[0], hc_loss, 0.8)

    def loss() -> Tensor:
        drawn = sampler.draw()
        return hardware(loss_of(supernet, x, drawn.weights), drawn.probabilities)

    (gradient,) = torch.autograd.grad(loss(), [sampler.alpha])
    for place in [(0, 0), (2, 1), (3, 2)]:
        numeric = numeric_slope(loss, sampler.alpha, *place)
        assert gradient[place].item() == pytest.approx(numeric, rel=1e-5, abs=1e-9)
    assert (gradient[~sampler.mask] == 0).all()


def pairs_of(sampler: ArchitectureSampler, used: np.ndarray) -> Iterator[tuple]:
    """Per layer: the gates that learn, their softmax, and the gates that stay closed."""
    for layer, row in enumerate(used):
        pair = np.flatnonzero(row)
        yield layer, pair, sampler.alpha.detach()[layer, pair].softmax(0).tolist(), ~row


@pytest.mark.parametrize(("kind", "learning"), [("binary", [2, 2, 2, 2]), ("binary_all", None)])
def test_binary_gate_gradient_is_the_papers_equation_4(
    kind: str, learning: list[int] | None, tiny: SearchSpace
) -> None:
    """dL/d alpha_i = sum_j dL/dg_j p_j (delta_ij - p_i), with dL/dg by finite differences."""
    supernet, x = double_supernet(tiny), torch.randn(4, 3, 8, 8, dtype=torch.float64)
    sampler = architecture_sampler(kind, tiny.num_choices, 4, torch.float64)
    drawn = sampler.draw()
    gates = drawn.weights.detach().clone()
    assert drawn.used.sum(1).tolist() == (learning or tiny.num_choices.tolist())
    assert (gates.sum(1) == 1).all() and ((gates == 0) | (gates == 1)).all()
    loss = loss_of(supernet, x, drawn.weights, drawn.used)
    (gradient,) = torch.autograd.grad(loss, [sampler.alpha])
    for layer, pair, p, closed in pairs_of(sampler, drawn.used):
        slopes = [numeric_slope(lambda: loss_of(supernet, x, gates), gates, layer, c) for c in pair]
        for me in range(len(pair)):
            formula = sum(slopes[k] * p[k] * ((k == me) - p[me]) for k in range(len(pair)))
            assert gradient[layer, pair[me]].item() == pytest.approx(formula, rel=1e-4, abs=1e-10)
        assert (gradient[layer, closed] == 0).all()


def test_the_cost_of_two_gates_has_the_pairs_own_gradient(tiny: SearchSpace, tiny_table) -> None:
    """d E / d alpha_i = p_i p_j (c_i - c_j), p the pair's softmax."""
    sampler = architecture_sampler("binary", tiny.num_choices, 4, torch.float32)
    drawn = sampler.draw()
    (gradient,) = torch.autograd.grad(cost_of(tiny_table)(drawn.probabilities), [sampler.alpha])
    for layer, pair, p, closed in pairs_of(sampler, drawn.used):
        slope = p[0] * p[1] * float(np.subtract(*tiny_table.costs["flops"][layer, pair]))
        assert gradient[layer, pair].tolist() == pytest.approx([slope, -slope], rel=1e-4)
        assert (gradient[layer, closed] == 0).all()


def test_two_gates_are_drawn_without_replacement() -> None:
    """The frequency of each pair is p_i p_j (1 / (1 - p_i) + 1 / (1 - p_j))."""
    sampler = architecture_sampler("binary", np.array([4]), random_alpha=torch.float32)
    p = sampler.probabilities().detach()[0].tolist()
    pairs = [(i, j) for i in range(4) for j in range(i)]
    expected = [p[i] * p[j] * (1 / (1 - p[i]) + 1 / (1 - p[j])) for i, j in pairs]
    assert sum(expected) == pytest.approx(1)
    counts = dict.fromkeys(pairs, 0)
    for _ in range(3000):
        j, i = np.flatnonzero(sampler.draw().used[0])
        counts[(i, j)] += 1
    scaled = 3000 * np.array(expected) / sum(expected)
    assert chisquare(list(counts.values()), scaled).pvalue > 1e-4


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_an_update_of_two_gates_leaves_the_others_alone(optimizer: str) -> None:
    """Also with momentum and weight decay; of the two, one gains what the other loses."""
    sampler = architecture_sampler("binary", np.array([5, 3, 1]), random_alpha=torch.float32)
    step = (
        torch.optim.SGD([sampler.alpha], 0.5, 0.9, weight_decay=0.1)
        if optimizer == "sgd"
        else torch.optim.Adam([sampler.alpha], 0.5, weight_decay=0.1)
    )
    for _ in range(20):
        drawn, before = sampler.draw(), sampler.alpha.detach().clone()
        p_before = sampler.probabilities().detach()
        values = torch.randn(3, 5)
        (sampler.alpha.grad,) = torch.autograd.grad((drawn.weights * values).sum(), sampler.alpha)
        step.step()
        sampler.after_update(drawn, before)
        p_after = sampler.probabilities().detach()
        unsampled = torch.from_numpy(~drawn.used) & sampler.mask
        assert torch.allclose(p_after[unsampled], p_before[unsampled], atol=1e-6)
        change = (p_after - p_before)[:2]
        assert torch.allclose(change.sum(1), torch.zeros(2), atol=1e-6)
        assert (change.abs() > 1e-5).sum() <= 4
        assert p_after[2, 0] == 1


class Calls:
    """How often each choice of each layer of a supernet is run."""

    def __init__(self, supernet: Supernet) -> None:
        self.made: list[tuple[int, int, bool]] = []
        for i, choices in enumerate(supernet.layers):
            for c, module in enumerate(choices):
                module.register_forward_hook(
                    lambda m, x, y, key=(i, c): self.made.append((*key, torch.is_grad_enabled()))
                )


def test_hard_gumbel_is_exact_without_graphs_of_what_it_does_not_take(tiny: SearchSpace) -> None:
    """The gradient is that of the full sum of all choices, each with its graph."""
    supernet, x = double_supernet(tiny), torch.randn(4, 3, 8, 8, dtype=torch.float64)
    sampler = architecture_sampler("gumbel_hard", tiny.num_choices, random_alpha=torch.float64)
    drawn = sampler.draw()
    calls = Calls(supernet)
    loss = loss_of(supernet, x, drawn.weights, drawn.used)
    (gradient,) = torch.autograd.grad(loss, [sampler.alpha], retain_graph=True)
    with_graph = [key[:2] for key in calls.made if key[2]]
    path = drawn.weights.argmax(1).tolist()
    assert with_graph == list(enumerate(path)) and len(calls.made) == tiny.num_choices.sum()

    y = supernet.first(supernet.stem(x))
    for i, choices in enumerate(supernet.layers):
        y = sum(drawn.weights[i, c] * m(y) for c, m in enumerate(choices))
    dense = F.cross_entropy(supernet.head(y), torch.arange(4))
    (expected,) = torch.autograd.grad(dense, [sampler.alpha])
    assert torch.allclose(gradient, expected, rtol=1e-9)


def test_weight_steps_of_hard_samplers_run_one_path(tiny: SearchSpace) -> None:
    supernet, x = trained_like(tiny), torch.randn(2, 3, 8, 8)
    calls = Calls(supernet)
    summed = tiny.num_choices.sum()
    for kind, paths, warming_up, number in (
        ("gumbel_hard", "never", False, 4),
        ("binary", "never", False, 4),
        ("softmax", "always", False, 4),
        ("gumbel", "always", True, 4),
        ("softmax", "warm-up", True, 4),
        ("gumbel", "warm-up", False, summed),
        ("softmax", "never", True, summed),
        ("gumbel", "never", False, summed),
    ):
        calls.made.clear()
        sampler = architecture_sampler(kind, tiny.num_choices)
        sampler.weight_paths, sampler.warming_up = paths, warming_up
        for path in sampler.step_paths():
            supernet(x, path)
        assert len(calls.made) == number
    calls.made.clear()
    biased = GumbelSampler(tiny.num_choices, np.random.default_rng(0), True, True)
    drawn = biased.draw()
    supernet(x, drawn.weights, drawn.used).sum().backward()
    assert len(calls.made) == 4 and biased.alpha.grad.abs().sum() > 0


def test_checkpointed_activations_change_nothing(tiny: SearchSpace) -> None:
    """Outputs, gradients, and BN statistics, which the second computation must not move again."""
    x = torch.randn(8, 3, 8, 8)
    nets = [trained_like(tiny).train() for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    weights = [torch.rand(4, 4, generator=torch.Generator().manual_seed(0)) for _ in nets]
    outs = []
    for net, w, checkpoint in zip(nets, weights, (False, True), strict=True):
        w.requires_grad_()
        out = net(x, w, checkpoint=checkpoint)
        out.square().sum().backward()
        outs.append(out)
    assert torch.equal(*outs) and torch.allclose(weights[0].grad, weights[1].grad)
    a, b = (net.state_dict() for net in nets)
    assert all(torch.equal(a[k], b[k]) for k in a)  # running statistics among them
    for p, q in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("training", [False, True])
def test_thresholds_run_the_path_they_decide(training: bool) -> None:
    space = load_space("singlepath", 8, 10)
    x = torch.randn(12, 3, 8, 8)
    decided = set()
    for seed in range(2):
        gated, sliced = (trained_like(space).train(training) for _ in range(2))
        for i in range(space.num_layers):  # norms near 1, as at the start of a training
            torch.nn.init.normal_(gated.layers[i].depthwise.conv.weight, 0, (2 / 25) ** 0.5)
        sliced.load_state_dict(gated.state_dict())
        thresholds = torch.rand(21, 3, generator=torch.Generator().manual_seed(seed)) * 1.4 + 0.2
        with torch.no_grad():
            one_hot = gated.choice_gates(thresholds)
            path = one_hot.argmax(1).numpy()
            assert (one_hot.sum(1) == 1).all()
            assert np.array_equal(gated.choice_scores(thresholds).argmax(1).numpy(), path)
            expected = sliced(x, path)
            assert expected.std() > 0.1
            assert torch.allclose(gated(x, thresholds), expected, atol=1e-4)
        decided |= set(path.tolist())
    assert len(decided) == 5


def test_threshold_decisions_are_the_papers_equations() -> None:
    """Norms, indicators and the slope of the cost by hand for one layer (eq. 4 to 8)."""
    space = load_space("singlepath", 8, 10)
    supernet = build_supernet(space)
    w = supernet.layers[1].depthwise.conv.weight.detach()  # [144, 1, 5, 5]
    unit = 2 / 25
    inner = w.clone()
    inner[:, :, 1:4, 1:4] = 0
    ring = (inner.square().sum() / (unit * 144 * 16)).sqrt()
    thresholds = torch.full((space.num_layers, 3), 0.5)
    thresholds[1, 1] = ring + 0.1  # 3x3
    w3 = w - inner
    halves = slice(72), slice(72, None)
    first, second = ((w3[s].square().sum() / (unit * 72 * 25)).sqrt() for s in halves)
    thresholds[1, 0], thresholds[1, 2] = first - 0.2, second + 0.3  # kept, expansion 3
    thresholds.requires_grad_()
    margins = supernet.gate_margins(thresholds)[1]
    assert torch.allclose(margins, torch.tensor([0.2, -0.1, -0.3]), atol=1e-5)
    gates = supernet.choice_gates(thresholds)
    names = space.layers[1].choices
    assert names[gates[1].argmax()] == "k3_e3"
    cost = dict(zip(names, torch.tensor([3.0, 7.0, 5.0, 11.0, 0.0]), strict=True))
    total = sum(gates[1, c] * cost[name] for c, name in enumerate(names))
    (slope,) = torch.autograd.grad(total, thresholds)
    s = torch.sigmoid(torch.tensor([0.2, -0.1, -0.3]))
    derivative = -s * (1 - s)
    # eq. 8's two-way sums at the decision: what opening each gate would add
    assert slope[1, 0] == pytest.approx((derivative[0] * cost["k3_e3"]).item(), rel=1e-4)
    assert slope[1, 2] == pytest.approx((derivative[2] * (7.0 - 3.0)).item(), rel=1e-4)
    assert slope[1, 1] == pytest.approx((derivative[1] * (5.0 - 3.0)).item(), rel=1e-4)


def thresholds_of_singlepath(
    dropout: float = 0.0,
) -> tuple[Supernet, ThresholdSampler]:
    space = load_space("singlepath", 8, 10)
    supernet = build_supernet(space)
    rng = np.random.default_rng(0)
    return supernet, ThresholdSampler(supernet, space.num_choices, rng, dropout)


def test_threshold_gradients_reach_thresholds_and_weights() -> None:
    supernet, sampler = thresholds_of_singlepath()
    drawn = sampler.draw()
    supernet(torch.randn(4, 3, 8, 8), drawn.weights).square().sum().backward()
    margins = supernet.gate_margins(sampler.alpha)
    real = torch.isfinite(margins)
    assert (sampler.alpha.grad[real] != 0).float().mean() > 0.9
    assert (sampler.alpha.grad[~real] == 0).all()
    assert real.sum() == 15 * 3 + 5 * 2  # skip only in layers 2 to 4; the last layer is fixed


def test_indicator_dropout_closes_gates_in_warm_up_only() -> None:
    """At its rate, without a trace in the thresholds; a closed gate is a smaller slice."""
    supernet, sampler = thresholds_of_singlepath(0.4)
    assert torch.equal(sampler.step_paths()[0], sampler.alpha)
    sampler.warming_up = True
    closed, seen = 0.0, set()
    for _ in range(50):
        thresholds = sampler.step_paths()[0]
        closed += thresholds.isinf().float().mean().item() / 50
        seen.add(int(supernet.choice_gates(thresholds)[1].argmax()))
    assert closed == pytest.approx(0.4, abs=0.03) and seen == set(range(5))
    assert (sampler.alpha == 0).all()
    supernet(torch.randn(4, 3, 8, 8), thresholds).square().sum().backward()
    gradients = [p.grad for p in supernet.parameters() if p.grad is not None]
    assert gradients and all(g.isfinite().all() for g in gradients)


def test_weights_feel_the_constraint_after_the_warm_up_only() -> None:
    supernet, sampler = thresholds_of_singlepath(0.4)
    table = load_table(supernet.space)
    target = BudgetCounts(table, "flops").median
    optimizer = torch.optim.SGD([sampler.alpha], 0.1)
    hardware = HardwareLoss(table, "flops", target, "log", 0.5)
    flags = AlphaConfig(a_warmup_epochs=1)
    training = ArchitectureTraining(sampler, supernet, NoBatches(), optimizer, hardware, flags)
    ce = torch.tensor(2.0)
    training.start_epoch(0)
    assert training.weight_loss(ce) is ce
    training.start_epoch(1)
    largest = table.cost(supernet.choice_gates(sampler.alpha).argmax(1).numpy(), "flops")
    expected = 2 + 0.5 * np.log(largest / 1e6)  # CE + w log R of the gates, all open
    assert training.weight_loss(ce).item() == pytest.approx(expected, rel=1e-6)


class NoBatches(list):
    def state_dict(self) -> dict:
        return {}
