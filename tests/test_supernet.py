"""The multi-path supernet against standalone networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_evaluator import trained_like
from torch import nn

from model import SearchSpace, Subnet, build_supernet, inherit_weights, load_space
from model.blocks import UncountedBatchNorm2d

MULTIPATH = ["proxylessnas", "fbnet", "spos", "nas_bench_macro"]


@pytest.mark.parametrize("name", MULTIPATH)
@pytest.mark.parametrize("training", [False, True])
def test_a_path_equals_its_standalone_network(
    name: str, training: bool, rng: np.random.Generator
) -> None:
    space = load_space(name, 32, 10)
    supernet = trained_like(space).double()  # so that the order of sums does not show
    for part in (supernet.head.dropout,):
        part.p = 0.0  # SPOS's dropout would draw twice
    x = torch.randn(6, 3, 32, 32, dtype=torch.float64)
    for _ in range(3):
        path = rng.integers(0, space.num_choices)
        subnet = Subnet(space, path).double()
        subnet.head.dropout.p = 0.0
        inherit_weights(subnet, supernet, path)
        supernet.train(training)
        subnet.train(training)
        with torch.no_grad():
            assert (supernet(x, path) - subnet(x)).abs().max() < 1e-9


@pytest.mark.parametrize("name", MULTIPATH)
def test_gradients_reach_exactly_the_path(name: str, rng: np.random.Generator) -> None:
    space = load_space(name, 8, 10)
    supernet = trained_like(space)
    path = rng.integers(0, space.num_choices)
    supernet(torch.randn(4, 3, 8, 8), path).square().sum().backward()
    for parameter_name, parameter in supernet.named_parameters():
        words = parameter_name.split(".")
        used = words[0] != "layers" or path[int(words[1])] == int(words[2])
        assert (parameter.grad is not None) == used, parameter_name
        if used and parameter_name.endswith("conv.weight"):
            assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", MULTIPATH)
def test_weighted_paths(name: str, rng: np.random.Generator) -> None:
    """One-hot weights are the path; other weights are the sum, layer by layer, by hand."""
    space = load_space(name, 8, 10)
    supernet = trained_like(space).eval()
    x = torch.randn(2, 3, 8, 8)
    path = rng.integers(0, space.num_choices)
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(path), space.max_choices).float()
    weights = torch.rand(space.num_layers, space.max_choices)
    with torch.no_grad():
        assert (supernet(x, one_hot) - supernet(x, path)).abs().max() < 1e-4
        y = supernet.first(supernet.stem(x))
        for i, layer in enumerate(space.layers):
            y = sum(weights[i, c] * supernet.run_layer(y, i, c) for c in range(len(layer.choices)))
        expected = supernet.head(y)
        assert torch.allclose(supernet(x, weights), expected, rtol=1e-3, atol=1e-3)


def test_a_path_of_wrong_length_is_an_error(tiny) -> None:
    with pytest.raises(ValueError, match="3 entries"):
        trained_like(tiny)(torch.zeros(1, 3, 8, 8), [0, 0, 0])


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norms_of_a_supernet_leave_the_count_of_batches_out(momentum: float | None) -> None:
    """All else is as in nn.BatchNorm2d, bit for bit; without momentum the mean needs the count."""
    ours, plain = UncountedBatchNorm2d(4), nn.BatchNorm2d(4)
    ours.momentum = plain.momentum = momentum
    ours.load_state_dict({**plain.state_dict(), "num_batches_tracked": torch.tensor(7)})
    plain.num_batches_tracked.fill_(7)
    for training in (True, True, False):
        x = torch.randn(3, 4, 5, 5) + 1
        assert torch.equal(ours.train(training)(x), plain.train(training)(x))
    assert torch.equal(ours.running_mean, plain.running_mean)
    assert torch.equal(ours.running_var, plain.running_var)
    assert ours.num_batches_tracked == (7 if momentum else 9) and plain.num_batches_tracked == 9
    assert ours.state_dict().keys() == plain.state_dict().keys()


def test_only_supernets_have_them(tiny: SearchSpace) -> None:
    """Other tools, such as thop, know the layers of a standalone network by their class."""
    path = np.zeros(tiny.num_layers, dtype=int)
    supernet, subnet = build_supernet(tiny), Subnet(tiny, path)
    norms = [[m for m in n.modules() if isinstance(m, nn.BatchNorm2d)] for n in (supernet, subnet)]
    assert {type(m) for m in norms[0]} == {UncountedBatchNorm2d}
    assert {type(m) for m in norms[1]} == {nn.BatchNorm2d}
