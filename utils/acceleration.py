"""Mixed precision (--amp) and compiled blocks (--compile) of training."""

from __future__ import annotations

import contextlib
import types

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

DTYPES = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Forward passes under autocast; with fp16, losses scaled so that gradients do not vanish.

    Weights, gradients and optimiser stay in float32. With `off` every method is a no-op.
    """

    def __init__(self, amp: str, device: torch.device) -> None:
        self.device_type, self.dtype = device.type, DTYPES[amp]
        self.enabled, self.scales = amp != "off", amp == "fp16"  # bf16 has float32's range
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.scales)

    def autocast(self) -> contextlib.AbstractContextManager:
        # no cache of cast weights: a pass uses each of them once
        return torch.autocast(
            self.device_type, self.dtype, enabled=self.enabled, cache_enabled=False
        )

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()

    def unscale(self, optimizer: Optimizer) -> None:
        """Bring gradients to their true size for clipping; infinite where fp16 has overflowed."""
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer) -> None:
        """Step the optimiser, unless fp16 has overflowed: then lower the scale."""
        self.scaler.step(optimizer)
        self.scaler.update()

    def skip(self) -> None:
        """End a step that is left out; fp16 lowers the scale if it has overflowed."""
        self.scaler.update()


def compile_blocks(blocks: dict[str, nn.Module], backend: str = "inductor") -> None:
    """Compile the forward of each block, in place, for the shapes that it meets.

    Block by block, so that no path needs another graph. TorchDynamo keeps graphs per code object,
    looks through all of one when it is called, and beyond its limit (8) falls back to eager in
    silence; so each block gets a copy of the code of its forward. It counts as code of this
    file: PyTorch's own, such as nn.Sequential's, would be called by one function that all share.
    Skips stay as they are: a block without kernels turns the compilation of its code object off.
    """
    for name, block in blocks.items():
        if isinstance(block, nn.Identity):
            continue
        forward = type(block).forward
        code = forward.__code__.replace(co_name=f"forward_{name}", co_filename=__file__)
        own = types.FunctionType(
            code, forward.__globals__, code.co_name, forward.__defaults__, forward.__closure__
        )
        own.__kwdefaults__ = forward.__kwdefaults__  # an argument only since Python 3.13
        block.forward = torch.compile(types.MethodType(own, block), backend=backend, dynamic=False)


def uncompile_blocks(blocks: dict[str, nn.Module]) -> None:
    """Undo `compile_blocks`: a compiled block cannot be copied."""
    for block in blocks.values():
        vars(block).pop("forward", None)  # the class's forward again
