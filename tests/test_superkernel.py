"""The Single-Path superkernel against standalone networks and convolutions by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_evaluator import batches, naive_top1, trained_like
from torch import nn
from torch.nn import functional as F

from model import Subnet, build_supernet, count_params, inherit_weights, load_space
from search_strategy.evaluator import Evaluator


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("training", [False, True])
def test_a_path_equals_its_standalone_network(
    size: int, training: bool, rng: np.random.Generator
) -> None:
    space = load_space("singlepath", size, 10)
    supernet = trained_like(space).double()  # so that the order of sums does not show
    x = torch.randn(12, 3, size, size, dtype=torch.float64)
    for _ in range(3):
        path = rng.integers(0, space.num_choices)
        subnet = Subnet(space, path).double()
        inherit_weights(subnet, supernet, path)
        supernet.train(training)
        subnet.train(training)
        with torch.no_grad():
            assert (supernet(x, path) - subnet(x)).abs().max() < 1e-9
        # training has moved the statistics of the slice alike
        other = Subnet(space, path).double()
        inherit_weights(other, supernet, path)
        for (name, a), b in zip(
            subnet.state_dict().items(), other.state_dict().values(), strict=True
        ):
            if "num_batches" not in name:
                assert torch.allclose(a, b, atol=1e-9), name


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


def test_skip_is_the_identity() -> None:
    space = load_space("singlepath", 8, 10)
    supernet = build_supernet(space)
    x = torch.randn(2, 24, 8, 8)
    assert supernet.run_layer(x, 1, space.layers[1].choices.index("skip")) is x


def test_scores_equal_one_plain_network_at_a_time(rng: np.random.Generator) -> None:
    space = load_space("singlepath", 16, 10)
    supernet = trained_like(space)
    before = {k: v.clone() for k, v in supernet.state_dict().items()}
    architectures = rng.integers(0, space.num_choices, size=(4, space.num_layers))
    calibration = [x for x, _ in batches(2, 16, 1)]
    validation = batches(2, 16, 2)
    scores = Evaluator(supernet, calibration, validation)(architectures)
    naive = [naive_top1(supernet, space, a, calibration, validation) for a in architectures]
    assert scores == pytest.approx(naive, abs=100 / 47 + 1e-6)
    assert all(torch.equal(supernet.state_dict()[k], v) for k, v in before.items())


def test_it_is_hardly_larger_than_its_largest_network() -> None:
    space = load_space("singlepath", 224, 1000)
    largest = space.encode(["k5_e6"] * 20 + ["k3_e6"])
    assert count_params(build_supernet(space)) <= 1.3 * count_params(Subnet(space, largest))


def test_a_weighted_path_is_refused() -> None:
    space = load_space("singlepath", 8, 10)
    with pytest.raises(ValueError, match="superkernel"):
        build_supernet(space)(torch.zeros(1, 3, 8, 8), torch.ones(space.num_layers, 5))
