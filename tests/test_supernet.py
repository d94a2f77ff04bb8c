"""Supernets against standalone networks and convolutions by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import NARROW, trained_like
from torch import nn
from torch.nn import functional as F

from model import Subnet, build_supernet, count_params, inherit_weights, load_space
from model.blocks import UncountedBatchNorm2d

MULTIPATH = [name for name in NARROW if name != "singlepath"]


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("training", [False, True])
def test_a_path_equals_its_standalone_network(
    name: str, training: bool, rng: np.random.Generator
) -> None:
    space = load_space(name, 8 if training and name == "singlepath" else 32, 10, NARROW[name])
    supernet = trained_like(space).double()  # so that the order of sums does not show
    supernet.head.dropout.p = 0.0  # SPOS's dropout would draw twice
    x = torch.randn(6, 3, space.input_size, space.input_size, dtype=torch.float64)
    for _ in range(3):
        path = rng.integers(0, space.num_choices)
        subnet, after = Subnet(space, path).double(), Subnet(space, path).double()
        subnet.head.dropout.p = 0.0
        inherit_weights(subnet, supernet, path)
        supernet.train(training)
        subnet.train(training)
        with torch.no_grad():
            assert (supernet(x, path) - subnet(x)).abs().max() < 1e-9
        inherit_weights(after, supernet, path)  # training has moved the statistics alike
        for (key, one), other in zip(
            subnet.state_dict().items(), after.state_dict().values(), strict=True
        ):
            assert "num_batches" in key or torch.allclose(one, other, atol=1e-9), key


@pytest.mark.parametrize("name", MULTIPATH)
def test_gradients_reach_exactly_the_path(name: str, rng: np.random.Generator) -> None:
    space = load_space(name, 8, 10, NARROW[name])
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
    space = load_space(name, 8, 10, NARROW[name])
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


def test_gradients_reach_exactly_the_slices_used() -> None:
    """Compared with F.conv2d on the inner 3x3 of the first half of the channels."""
    space = load_space("singlepath", 8, 10)
    supernet = build_supernet(space)
    skip, k3_e3 = space.layers[1].choices.index("skip"), space.layers[1].choices.index("k3_e3")
    path = np.zeros(space.num_layers, dtype=int)
    path[1], path[2] = skip, k3_e3
    supernet(torch.randn(4, 3, 8, 8), path).square().sum().backward()
    assert all(p.grad is None for p in supernet.layers[1].parameters())
    block = supernet.layers[2]
    grad = block.depthwise.conv.weight.grad  # [144, 1, 5, 5]
    used = torch.zeros_like(grad, dtype=torch.bool)
    used[:72, :, 1:4, 1:4] = True
    assert (grad[used] != 0).all() and (grad[~used] == 0).all()
    assert (block.expand.conv.weight.grad[72:] == 0).all()
    assert (block.project.conv.weight.grad[:, 72:] == 0).all()
    assert (block.expand.bn.weight.grad[72:] == 0).all()

    x = torch.randn(2, 24, 8, 8)
    for m in block.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()
    scale = (1 + 1e-3) ** -0.5  # a fresh BN in eval mode
    y = F.relu(F.conv2d(x, block.expand.conv.weight[:72]) * scale)
    y = F.relu(
        F.conv2d(y, block.depthwise.conv.weight[:72, :, 1:4, 1:4], padding=1, groups=72) * scale
    )
    y = x + F.conv2d(y, block.project.conv.weight[:, :72]) * scale
    fresh = build_supernet(space).eval()
    fresh.layers[2].load_state_dict(
        {k: v for k, v in block.state_dict().items() if "running" not in k}, strict=False
    )
    assert torch.allclose(fresh.run_layer(x, 2, k3_e3), y, atol=1e-5)


def test_superkernels_skip_nothing_and_are_hardly_larger_than_their_largest_network() -> None:
    space = load_space("singlepath", 224, 1000)
    supernet, x = build_supernet(space), torch.randn(2, 24, 8, 8)
    assert supernet.run_layer(x, 1, space.layers[1].choices.index("skip")) is x
    largest = space.encode(["k5_e6"] * 20 + ["k3_e6"])
    assert count_params(supernet) <= 1.3 * count_params(Subnet(space, largest))


@pytest.mark.parametrize(
    ("name", "path", "says"),
    [
        ("singlepath", torch.ones(21, 5), "superkernel"),  # weights
        ("fbnet", [0, 0, 0], "3 entries"),
    ],
)
def test_paths_of_another_kind_or_length_are_refused(name: str, path: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build_supernet(load_space(name, 8, 10))(torch.zeros(1, 3, 8, 8), path)
