"""Fused SGD, mixed precision and compiled blocks against their plain forms."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from conftest import TINY
from helpers import batches
from torch import nn
from torch._dynamo.testing import CompileCounter

from model import SearchSpace, Subnet, build_supernet, load_space
from model.blocks import MBConv
from utils.acceleration import Precision, compile_blocks, uncompile_blocks
from utils.optim import build_optimizer

CPU = torch.device("cpu")


def train_some(space: SearchSpace, optimizer_of, amp: str = "off", steps: int = 8) -> nn.Module:
    torch.manual_seed(0)
    supernet = build_supernet(space).train()
    optimizer = optimizer_of(supernet.parameters())
    precision = Precision(amp, CPU)
    rng = np.random.default_rng(0)
    images, labels = batches(1, 8, 0)[0]
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        with precision.autocast():
            loss = nn.functional.cross_entropy(
                supernet(images, rng.integers(0, space.num_choices)), labels
            )
        precision.backward(loss)
        precision.unscale(optimizer)
        precision.step(optimizer)
    return supernet


def test_fused_sgd_steps_new_paths_as_plain_sgd_does(tiny: SearchSpace) -> None:
    """Primed buffers change nothing, also where a step meets old and new parameters."""
    ours = train_some(tiny, lambda p: build_optimizer("sgd", p, 0.05, 0.9, 1e-2))
    plain = train_some(
        tiny,
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=1e-2, nesterov=True),
    )
    for (name, a), b in zip(ours.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_trains_alike(tiny: SearchSpace, amp: str) -> None:
    """Weights stay float32 and go where float32 training takes them, up to rounding."""

    def sgd(parameters):
        return build_optimizer("sgd", parameters, 0.01, 0.9, 0.0)

    exact, mixed = train_some(tiny, sgd), train_some(tiny, sgd, amp)
    start = train_some(tiny, sgd, steps=0)
    moved = error = 0.0
    for a, b, c in zip(exact.parameters(), mixed.parameters(), start.parameters(), strict=True):
        assert b.dtype == torch.float32
        moved += (a - c).square().sum().item()
        error += (a - b).square().sum().item()
    assert 0 < error < 0.1 * moved


def test_an_overflow_of_fp16_leaves_the_step_out() -> None:
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], 0.1)
    precision = Precision("fp16", CPU)
    scale = precision.scaler.get_scale()
    precision.backward((weight * float("inf")).sum())
    precision.unscale(optimizer)
    precision.step(optimizer)
    assert weight.item() == 1 and precision.scaler.get_scale() < scale


def test_no_path_needs_another_graph() -> None:
    """One graph per block and none more, whatever the paths; each block of a path runs its own."""
    space = load_space(TINY, 32, 10)  # maps above those whose eager convolutions differ from graphs
    torch.manual_seed(0)
    supernet, plain = build_supernet(space), build_supernet(space)
    plain.load_state_dict(supernet.state_dict())
    counter, ran = CompileCounter(), []

    def backend(graph, inputs):
        run = counter(graph, inputs)
        return lambda *args: ran.append(graph) or run(*args)

    compile_blocks(supernet.blocks(), backend=backend)
    images = torch.randn(3, 3, 32, 32)
    for choice in range(space.max_choices):  # every block once
        path = np.minimum(choice, space.num_choices - 1)
        assert torch.equal(supernet(images, path), plain(images, path))
    assert sum(isinstance(b, MBConv) for b in plain.blocks().values()) > 8  # dynamo's own limit
    computing = [b for b in plain.blocks().values() if not isinstance(b, nn.Identity)]
    assert counter.frame_count == len(computing)
    rng = np.random.default_rng(0)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(5):
            path = rng.integers(0, space.num_choices)
            ran.clear()
            assert torch.equal(supernet(images, path), plain(images, path))
            used = [b for b in plain.path_modules(path) if not isinstance(b, nn.Identity)]
            assert len(ran) == len(set(ran)) == len(used)
    assert counter.frame_count == len(computing)
    assert supernet.state_dict().keys() == plain.state_dict().keys()
    uncompile_blocks(supernet.blocks())
    assert torch.equal(copy.deepcopy(supernet).eval()(images, path), supernet.eval()(images, path))


def saved_bytes(run) -> int:
    """Of the different tensors that autograd keeps for the backward pass of `run()`."""
    kept: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = run()
    del out
    return sum(kept.values())


@pytest.mark.parametrize("name", ["proxylessnas", "fbnet", "spos", "singlepath", "nas_bench_macro"])
def test_a_path_keeps_no_more_activations_than_its_network(name: str) -> None:
    """At most 1.1 times the standalone network's saved tensors (a superkernel's are its slices)."""
    space = load_space(name, 32, 10)
    supernet = build_supernet(space).train()
    images = torch.randn(16, 3, 32, 32)
    path = np.random.default_rng(0).integers(0, space.num_choices)
    subnet = Subnet(space, path).train()
    alone = saved_bytes(lambda: subnet(images))
    assert saved_bytes(lambda: supernet(images, path)) < 1.1 * alone
