"""CUDA graphs of blocks: PyTorch's make_graphed_callables on a GPU, and on tapes without one."""

from __future__ import annotations

import contextlib
import weakref
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import Command
from test_training import NullWriter, arguments, run_training
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model import SearchSpace, Supernet, build_supernet, load_space
from sampler import FairSampler, SoftmaxSampler
from supernet import check_cuda_graphs
from utils.acceleration import Precision
from utils.cuda_graphs import GraphedForward, graphed_blocks
from utils.memory import memory_hint

BATCH = 6
CPU = torch.device("cpu")


class Tape:
    """torch.cuda.CUDAGraph on a CPU: the operators of a capture, run again in the same memory.

    As on a GPU, inputs, weights and buffers are read from the memory that they had in the capture,
    and results are written to that of the capture's results.
    """

    tapes: ClassVar[list[Tape]] = []

    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self.replays = 0
        Tape.tapes.append(self)

    @torch.no_grad()
    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, results in self.calls:
            for new, old in zip(tree_leaves(func(*args, **kwargs)), results, strict=True):
                if isinstance(old, Tensor) and new.data_ptr() != old.data_ptr():
                    old.copy_(new)


class Recording(TorchDispatchMode):
    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.tape.calls.append((func, args, kwargs or {}, tree_leaves(result)))
        return result


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> list[Tape]:
    """All tapes made: make_graphed_callables is PyTorch's, what it uses of CUDA is not."""
    monkeypatch.setattr(Tape, "tapes", [])
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Tape)
    monkeypatch.setattr(torch.cuda, "graph", lambda tape, **options: Recording(tape))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda.graphs, "graph_pool_handle", lambda: None)
    return Tape.tapes


on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
cpu_and_gpu = pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=on_gpu)], indirect=True
)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    """CPU, where captures go to tapes, or CUDA."""
    if request.param == "cpu":
        request.getfixturevalue("tapes")
    return torch.device(request.param)


def supernets(space: SearchSpace, device: torch.device) -> tuple[Supernet, Supernet]:
    """Two with the same weights, in training mode."""
    pair = []
    for _ in range(2):
        torch.manual_seed(0)
        net = build_supernet(space).to(device, memory_format=torch.channels_last)
        pair.append(net.train())
    return pair[0], pair[1]


def batch(device: torch.device, size: int = BATCH) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    images = torch.randn(size, 3, 8, 8, generator=g).to(device, memory_format=torch.channels_last)
    return images, torch.randint(0, 10, (size,), generator=g).to(device)


def step(net: Supernet, routes, images: Tensor, labels: Tensor, amp: str = "off") -> list[Tensor]:
    """Gradients of some paths, added up as in a training step; the logits of all."""
    precision = Precision(amp, images.device)
    seen = []
    for route in routes:
        with precision.autocast():
            logits = net(images, route)
            loss = F.cross_entropy(logits, labels)
        precision.backward(loss)
        seen.append(logits)
    return seen


def assert_alike(a: Supernet, b: Supernet, tolerance: float = 1e-5) -> None:
    """Same gradients, where there are any, weights, and statistics."""
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        torch.testing.assert_close(p, q, rtol=tolerance, atol=tolerance, msg=name)
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, rtol=tolerance, atol=tolerance, msg=name)
    for (name, p), q in zip(a.named_buffers(), b.buffers(), strict=True):
        torch.testing.assert_close(p, q, rtol=tolerance, atol=tolerance, msg=name)


def routes_of(kind: str, space: SearchSpace) -> Iterator[list]:
    """Of several training steps."""
    rng = np.random.default_rng(0)
    fair, soft = FairSampler(space.num_choices, rng), SoftmaxSampler(space.num_choices, rng)
    for _ in range(4):
        if kind == "uniform":
            yield [rng.integers(0, space.num_choices)]
        else:
            yield list(fair.step_paths() if kind == "fair" else soft.step_paths())


@pytest.mark.parametrize("kind", ["uniform", "fair", "softmax"])
@cpu_and_gpu
def test_training_is_that_of_eager_blocks(device: torch.device, kind: str, tiny) -> None:
    """Gradients, weights, logits and BN statistics over steps that share and repeat blocks."""
    graphed, plain = supernets(tiny, device)
    optimizers = [torch.optim.SGD(n.parameters(), 0.05, momentum=0.9) for n in (graphed, plain)]
    images, labels = batch(device)
    with graphed_blocks(graphed.blocks(), BATCH, autocast=False):
        for routes in routes_of(kind, tiny):
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            logits = [step(net, routes, images, labels) for net in (graphed, plain)]
            for ours, wanted in zip(*logits, strict=True):
                torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)
            assert_alike(graphed, plain, 1e-4)
            for optimizer in optimizers:
                nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
                optimizer.step()
    assert_alike(graphed, plain, 1e-4)
    graphed.eval(), plain.eval()  # and afterwards it is a supernet like any
    path = np.zeros(tiny.num_layers, int)
    torch.testing.assert_close(graphed(images, path), plain(images, path), rtol=1e-4, atol=1e-5)
    assert all("forward" not in vars(block) for block in graphed.blocks().values())


def graphed_forwards(net: Supernet) -> dict[str, GraphedForward]:
    return {n: b.forward for n, b in net.blocks().items() if "forward" in vars(b)}


def test_a_block_is_captured_once_and_when_it_is_first_used(tapes: list[Tape], tiny) -> None:
    net, _ = supernets(tiny, CPU)
    images, labels = batch(CPU)
    with graphed_blocks(net.blocks(), BATCH, autocast=False):
        forwards = graphed_forwards(net)
        skips = {n for n, b in net.blocks().items() if isinstance(b, nn.Identity)}
        assert skips and forwards.keys() == net.blocks().keys() - skips
        assert not tapes
        step(net, [np.zeros(tiny.num_layers, int)], images, labels)
        used = {"stem", "first", "head", *(f"{i}_0" for i in range(tiny.num_layers))}
        assert {n for n, f in forwards.items() if f.replay} == used
        assert len(tapes) == 2 * len(used)  # forward and backward
        for routes in routes_of("fair", tiny):
            step(net, routes, images, labels)
        assert len(tapes) == 2 * len(forwards)
        for routes in routes_of("uniform", tiny):
            step(net, routes, images, labels)
        assert len(tapes) == 2 * len(forwards)
        assert all(tape.calls and tape.replays for tape in tapes)


def test_the_memory_of_graphs_is_free_afterwards(tapes: list[Tape], tiny: SearchSpace) -> None:
    net, _ = supernets(tiny, CPU)
    images, labels = batch(CPU)
    with graphed_blocks(net.blocks(), BATCH, autocast=False):
        step(net, [np.zeros(tiny.num_layers, int)], images, labels)
        graph = weakref.ref(tapes[0])
        tapes.clear()
        assert graph() is not None
    assert graph() is None


def test_what_is_no_training_step_runs_eagerly(tapes: list[Tape], tiny) -> None:
    """Evaluation, no gradients, a last batch, another precision: no replay and no capture."""
    net, plain = supernets(tiny, CPU)
    images, labels = batch(CPU)
    path = np.zeros(tiny.num_layers, int)

    def replays() -> int:
        return sum(tape.replays for tape in tapes)

    def others() -> None:
        for n in (net, plain):
            with torch.no_grad():
                n(images, path)
            step(n, [path], *batch(CPU, BATCH - 1))
            step(n, [path], images, labels, "bf16")
            n.eval()(images, path)
            n.train()

    with graphed_blocks(net.blocks(), BATCH, autocast=False):
        others()
        assert not tapes
        for n in (net, plain):
            step(n, [path], images, labels)
        before, made = replays(), len(tapes)
        assert before == made > 0
        others()
        assert (replays(), len(tapes)) == (before, made)
    assert_alike(net, plain, 1e-4)


@cpu_and_gpu
def test_under_autocast(device: torch.device, tiny: SearchSpace) -> None:
    graphed, plain = supernets(tiny, device)
    images, labels = batch(device)
    with graphed_blocks(graphed.blocks(), BATCH, autocast=True):
        for routes in routes_of("fair", tiny):
            for net in (graphed, plain):
                step(net, routes, images, labels, "bf16")
        assert graphed_forwards(graphed)["stem"].replay is not None
    assert_alike(graphed, plain, 0.05)


def test_a_capture_leaves_statistics_and_random_numbers_alone(tapes: list[Tape], tiny) -> None:
    graphed, plain = supernets(tiny, CPU)
    images, _ = batch(CPU)
    graphed.head.dropout = nn.Dropout(0.5)
    with graphed_blocks(graphed.blocks(), BATCH, autocast=False):
        state = torch.get_rng_state()
        for forward in graphed_forwards(graphed).values():
            if forward.block is graphed.stem:
                forward.capture(images)
            if forward.block is graphed.head:
                forward.capture(torch.ones(BATCH, 16, 2, 2).requires_grad_())
        assert len(tapes) == 4
        assert any("bernoulli" in str(func) for func, *_ in tapes[2].calls)  # dropout draws
        assert torch.equal(torch.get_rng_state(), state)
    assert_alike(graphed, plain, 0)


def test_autograd_does_take_static_memory_as_a_gradient(tapes: list[Tape], tiny) -> None:
    """What `own_gradients` is for: without it, a second backward pass doubles its own gradient."""
    graphed, plain = supernets(tiny, CPU)
    images, labels = batch(CPU)
    path = np.zeros(tiny.num_layers, int)
    with graphed_blocks(graphed.blocks(), BATCH, autocast=False):
        for net in (graphed, plain):
            step(net, [path], images, labels)
        weight = graphed.head.classifier.weight
        written = {r.data_ptr() for t in tapes for *_, rs in t.calls for r in rs if r is not None}
        assert weight.grad.data_ptr() in written
        step(graphed, [path], images, labels)
        assert weight.grad.data_ptr() not in written


def test_a_block_that_runs_again_before_its_backward_pass(tapes: list[Tape], tiny) -> None:
    """Its activations would be overwritten: an error, and no wrong gradient."""
    net, _ = supernets(tiny, CPU)
    images, labels = batch(CPU)
    path = np.zeros(tiny.num_layers, int)
    with graphed_blocks(net.blocks(), BATCH, autocast=False):
        first, _ = net(images, path), net(images, path)
        with pytest.raises(RuntimeError, match="ran again before its backward pass"):
            F.cross_entropy(first, labels).backward()


def test_memory_that_runs_out_in_a_capture(monkeypatch: pytest.MonkeyPatch, tiny) -> None:
    def fail(*args: object, **options: object) -> None:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        finally:
            raise RuntimeError("CUDA error: operation failed due to an error during capture")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", fail)
    net, _ = supernets(tiny, CPU)
    line = r"out of memory \(2.00 GiB were asked for\); --cuda-graphs keeps .* lower --batch-size"
    with (
        graphed_blocks(net.blocks(), BATCH, autocast=False),
        pytest.raises(ValueError, match=line),
        memory_hint("another hint"),
    ):
        net(batch(CPU)[0], np.zeros(tiny.num_layers, int))
    assert not graphed_forwards(net)


def flags(**given: object) -> Namespace:
    plain = {"compile": False, "checkpoint_activations": False, "sync_bn": False}
    return Namespace(**{"cuda_graphs": True, **plain, **given})


@pytest.mark.parametrize("flag", ["compile", "checkpoint_activations", "sync_bn"])
def test_flags_that_do_not_go_with_graphs(flag: str, tiny: SearchSpace) -> None:
    gpu = torch.device("cuda")
    check_cuda_graphs(flags(), tiny, gpu)
    with pytest.raises(ValueError, match=f"--{flag.replace('_', '-')}"):
        check_cuda_graphs(flags(**{flag: True}), tiny, gpu)
    check_cuda_graphs(flags(**{flag: True, "cuda_graphs": False}), tiny, CPU)


def test_spaces_and_devices_that_do_not_go_with_graphs(monkeypatch, tiny: SearchSpace) -> None:
    gpu = torch.device("cuda")
    with pytest.raises(ValueError, match="superkernel"):
        check_cuda_graphs(flags(), load_space("singlepath", 8, 10), gpu)
    old: Callable = lambda callables, sample_args: None  # noqa: E731
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", old)
    with pytest.raises(ValueError, match="newer"):
        check_cuda_graphs(flags(), tiny, gpu)


def test_cuda_graphs_without_a_gpu(command: Command) -> None:
    done = command("train_supernet.py", "--cuda-graphs", "--device", "cpu", ok=False)
    assert "--cuda-graphs needs a CUDA device" in done.stderr


@pytest.mark.parametrize("strategy", ["uniform", "fair"])
def test_the_flag_trains_the_same_supernet(
    tapes: list[Tape], tmp_path: Path, strategy: str
) -> None:
    """A whole epoch of digits, with clipping and fused SGD; the loss and top-1 it reports too."""
    common = "--epochs", 1, "--batch-size", 256, "--sample-strategy", strategy
    plain, graphed = arguments(*common), arguments(*common, "--cuda-graphs")
    results = []
    for args in (plain, graphed):
        assert not tapes
        writer = NullWriter()
        supernet = run_training(args, tmp_path / f"{args.cuda_graphs}.pt", writer=writer)
        scalars = {tag: value for tag, value, _ in writer.values if tag != "train/images_per_s"}
        results.append((supernet, scalars))
    assert tapes and all(tape.replays for tape in tapes)
    (ours, scalars), (wanted, wanted_scalars) = results
    assert_alike(ours, wanted, 1e-3)
    assert scalars == pytest.approx(wanted_scalars, rel=1e-3)
