"""CUDA graphs of the blocks of a network, as --cuda-graphs asks for them.

With small images a GPU runs the kernels of a training step faster than the host can launch them. A
CUDA graph is launched once for all kernels of a block: each block gets one of its forward and one
of its backward pass, and any path is made of replays.

Blocks and not torch.compile(mode="reduce-overhead"): its CUDA graphs share one pool of memory, in
which a graph is valid only after those that ran before it when it was recorded, so it records again
for every new sequence of blocks; random paths are hardly anything else. A block here has memory of
its own, whatever runs before it. The price is that the activations of all choices stay on the GPU,
and not those of one path.

What is captured has static memory, which is what most of this file is about:
- Input, output, and gradients of both. A block must not run again before its backward pass: the
  samplers' weight steps go forward and back path by path, and a weighted sum runs different blocks.
  Checked in each backward pass.
- Gradients of the weights; see `own_gradients`.
- Weights and BN statistics, which may be changed in place only, as optimisers and
  `load_state_dict` do.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from utils.memory import memory_hint

HINT = "--cuda-graphs keeps the activations of all choices: leave it out, or lower --batch-size"


def check_device(device: torch.device) -> None:
    """Raises ValueError where --cuda-graphs cannot work: another device, an old PyTorch."""
    if device.type != "cuda":
        raise ValueError(
            f"--cuda-graphs needs a CUDA device, and this run is on {device.type}; leave it out"
        )
    if "capture_error_mode" not in inspect.signature(torch.cuda.make_graphed_callables).parameters:
        raise ValueError(
            f"--cuda-graphs needs PyTorch 2.14 or newer, and this is {torch.__version__}; leave it "
            f"out"
        )


@contextlib.contextmanager
def graphed_blocks(
    blocks: dict[str, nn.Module], batch_size: int, autocast: bool, enabled: bool = True
) -> Iterator[None]:
    """Within it, training runs the CUDA graphs of the blocks; afterwards their memory is free.

    Args:
        blocks: by name; what the one called `head` gives leaves the network.
        batch_size: images of a training step on this device.
        autocast: whether training steps run under autocast.
    """
    blocks = {name: b for name, b in blocks.items() if enabled and not isinstance(b, nn.Identity)}
    for name, block in blocks.items():
        block.forward = GraphedForward(block, batch_size, autocast, name == "head")  # type: ignore[method-assign]
    try:
        yield
    finally:
        for block in blocks.values():
            del block.forward
        if blocks:
            gc.collect()  # make_graphed_callables leaves cycles, which hold GPU memory


def own_forward(block: nn.Module, x: Tensor) -> Tensor:
    """That of the block's class, whatever stands in its place."""
    return type(block).forward(block, x)


class Body(nn.Module):
    """What is captured of a block: its own forward pass. Keeps its last output."""

    output: Tensor

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        self.output = own_forward(self.block, x)
        return self.output


class GraphedForward:
    """The forward of one block: replays of its graphs where they fit, else eager as ever.

    They are captured in the first pass that they are for: blocks that no path takes cost nothing.

    Args:
        leaves: whether the output is read after later runs of the block: the logits of a fair
            step's paths are, together.
    """

    def __init__(self, block: nn.Module, batch_size: int, autocast: bool, leaves: bool) -> None:
        self.block = block
        self.batch_size = batch_size
        self.autocast = autocast
        self.leaves = leaves
        self.parameters = list(block.parameters())
        self.replay: Callable[[Tensor], Tensor] | None = None
        self.captured: tuple = ()  # shape, dtype and requires_grad of the input
        self.runs = 0

    def __call__(self, x: Tensor) -> Tensor:
        """The block's output: of training for the training batch size, out of static memory."""
        if not self.is_training_step(x):
            return self.eager(x)
        if self.replay is None:
            self.replay, self.captured = self.capture(x), (x.shape, x.dtype, x.requires_grad)
        if self.captured != (x.shape, x.dtype, x.requires_grad):
            return self.eager(x)
        own_gradients(self.parameters)  # before the backward pass writes to their memory
        y = self.replay(x)
        self.runs += 1
        y.register_hook(self.check_memory(self.runs))
        return y.clone() if self.leaves else y

    def is_training_step(self, x: Tensor) -> bool:
        """Not evaluation, nor choices without a graph, a last batch, or a step of other precision.

        Architecture steps run in float32, also where those of the weights run under autocast.
        """
        return (
            self.block.training
            and torch.is_grad_enabled()
            and len(x) == self.batch_size
            and torch.is_autocast_enabled(x.device.type) == self.autocast
        )

    def eager(self, x: Tensor) -> Tensor:
        return own_forward(self.block, x)

    def capture(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """Graphs for inputs like x; running statistics and random states stay as they are.

        In x's memory format: an input of another is copied into the static one like any.

        Raises:
            ValueError: memory ran out.
        """
        sample = x.detach().clone().requires_grad_(x.requires_grad)
        devices = [x.device] if x.device.type == "cuda" else []
        body = Body(self.block)
        with memory_hint(HINT), buffers_kept(self.block), torch.random.fork_rng(devices):
            torch.cuda.make_graphed_callables(  # it sets body.forward
                body,
                (sample,),
                capture_error_mode="thread_local",  # loaders pin memory in other threads
            )
        # Drops the graph that autograd recorded on the capture's stream: nodes that accumulate
        # gradients would stay on that stream, and each wait for the training's in every step.
        body.output.detach_()
        return body.forward

    def check_memory(self, run: int) -> Callable[[Tensor], None]:
        """A hook of the backward pass: are the activations still those of forward pass `run`?"""

        def check(grad: Tensor) -> None:
            if run != self.runs:
                raise RuntimeError("a block with CUDA graphs ran again before its backward pass")

        return check


@contextlib.contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """What the passes inside make of BN statistics is undone.

    In place: it is their memory that is captured, so no other may take its place meanwhile.
    """
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)


def own_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Move gradients to memory of their own, so that another backward pass can add to them.

    The backward graph leaves gradients in its static memory, and where a parameter has none yet
    autograd takes such a tensor as `.grad` without a copy (AccumulateGrad steals what nothing else
    refers to; that others share its storage it does not see). The next replay would overwrite it
    and add it to itself. A step that runs a block once never pays for this, and one that runs it
    several times one kernel for each further time: fair steps do, for stem, first block and head,
    and for choices of layers that have fewer than others.
    """
    used = [p for p in parameters if p.grad is not None]
    if not used:
        return
    static = [p.grad for p in used]
    own = [torch.empty_like(grad) for grad in static]
    torch._foreach_copy_(own, static)  # one launch instead of one per tensor
    for p, grad in zip(used, own, strict=True):
        p.grad = grad
