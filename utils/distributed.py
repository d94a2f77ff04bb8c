"""Several processes, started by torchrun, that work as one: each has a GPU, or a part of a CPU.

    torchrun --nproc_per_node 4 train_supernet.py --dataset cifar10
    torchrun --nnodes 8 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint HOST:29500 search.py

Every rank runs the same script with the same seed, so all draw the same paths; each sees its part
of every training batch. Gradients of the parameters a step has used, and only those, are averaged
in one flat all-reduce. Rank 0 alone writes to the run folder. Without torchrun, everything here
does nothing.
"""

from __future__ import annotations

import atexit
import datetime
import functools
import os
import zlib
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from utils.ranks import launched, rank, world_size

TIMEOUT = 600.0  # seconds that a rank waits for the others; ONESHOT_NAS_TIMEOUT overrides it
CHECK_EVERY = 100  # steps between two comparisons of the paths that the ranks have drawn
AnyPath = Sequence[int] | np.ndarray | Tensor  # choices, int [L], or weights, float [L, C]
P = ParamSpec("P")
T = TypeVar("T")
N = TypeVar("N", bound=nn.Module)


def join(device: torch.device) -> torch.device:
    """Join the other processes; return this one's device: with CUDA, the local rank's GPU.

    Raises:
        ValueError: the others did not come in time, or this machine has fewer GPUs than processes.
    """
    if not launched() or dist.is_initialized():
        return device
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise ValueError(
                f"--nproc_per_node is more than the {torch.cuda.device_count()} GPUs there are; "
                f"start one process per GPU"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    # alpha and its gradient stay on the CPU, where NCCL has no operations
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    timeout = datetime.timedelta(seconds=float(os.environ.get("ONESHOT_NAS_TIMEOUT", TIMEOUT)))
    _or_lost(dist.init_process_group)(backend, timeout=timeout)
    atexit.register(dist.destroy_process_group)
    return device


def _or_lost(collective: Callable[P, T]) -> Callable[P, T]:
    """Decorate a collective: its failure is one clear line instead of a library's traceback."""

    @functools.wraps(collective)
    def call(*args: P.args, **options: P.kwargs) -> T:
        try:
            return collective(*args, **options)
        except RuntimeError as error:
            reason = (str(error).splitlines() or ["no reason given"])[0]
            raise ValueError(
                f"rank {rank()} of {world_size()} lost the others ({reason}); what stopped them "
                f"stands in their output. Start again with --resume"
            ) from error

    return call


@_or_lost
def from_main(value: T) -> T:
    """Broadcast rank 0's value; the value of the others does not matter."""
    box = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(box, src=0)
    return box[0]


@_or_lost
def gather(value: T) -> list[T]:
    """Return every rank's value, in order of rank, on every rank."""
    if not dist.is_initialized():
        return [value]
    values = [value] * world_size()
    dist.all_gather_object(values, value)
    return values


@_or_lost
def add_up(tensor: Tensor) -> None:
    """Sum a tensor over ranks, in place."""
    if dist.is_initialized():
        dist.all_reduce(tensor)


def average_gradients(parameters: Sequence[Tensor], *scalars: Tensor | float) -> list[Tensor]:
    """Average the gradients there are, in place; and the scalars, which are returned.

    Parameters without a gradient, those of paths that the step did not take, are neither sent nor
    touched; every rank must have the same ones.
    """
    device = parameters[0].device
    numbers = [  # a number is filled in, not copied: a copy waits for what a GPU has queued
        s.detach().to(device, torch.float32)
        if isinstance(s, Tensor)
        else torch.full((), s, device=device, dtype=torch.float32)
        for s in scalars
    ]
    if not dist.is_initialized():
        return numbers
    used = [p.grad for p in parameters if p.grad is not None]
    tensors = [*used, *numbers]
    flat = torch.cat([t.reshape(-1) for t in tensors])  # one all-reduce, not one per tensor
    add_up(flat)
    flat /= world_size()
    parts = flat.split([t.numel() for t in tensors])
    if used:
        views = [part.view_as(t) for part, t in zip(parts, used, strict=False)]  # scalars left
        torch._foreach_copy_(used, views)  # one launch instead of one per tensor
    return [part[0] for part in parts[len(used) :]]


def synchronise_batch_norms(net: N, device: torch.device) -> N:
    """Convert batch norms to take their statistics over all ranks' images.

    Raises:
        ValueError: not on a GPU, or for a superkernel, whose sliced batch norms cannot.
    """
    if device.type != "cuda":
        raise ValueError("--sync-bn needs GPUs; on other devices leave it out")
    if getattr(net, "slices", None):
        raise ValueError("--sync-bn: a superkernel runs slices of its batch norms; leave it out")
    return nn.SyncBatchNorm.convert_sync_batchnorm(net)


class PathCheck:
    """Check every CHECK_EVERY steps that all ranks draw the same paths; else weights differ."""

    def __init__(self, every: int = CHECK_EVERY) -> None:
        self.every = every
        self.steps = self.fingerprint = 0

    def __call__(self, path: AnyPath) -> None:
        """Add a path; compare where it is time to.

        Raises:
            ValueError: ranks have drawn different paths.
        """
        if not dist.is_initialized():
            return
        # every step waits for weights that are on a GPU
        data = path.detach().cpu().numpy() if isinstance(path, Tensor) else np.asarray(path)
        self.fingerprint = zlib.crc32(data.tobytes(), self.fingerprint)  # of all paths so far
        self.steps += 1
        if self.steps % self.every == 0 and len(set(seen := gather(self.fingerprint))) > 1:
            raise ValueError(
                f"the ranks drew different paths within {self.steps} steps (fingerprints {seen}); "
                f"start all of them with the same flags and versions"
            )


def any_asked(share: Tensor, own: bool, step: int) -> bool:
    """Return True if a signal to stop has come to any rank: all must stop after the same step.

    `share` is the average over ranks of `own`; on a GPU it is looked at every 20 steps only, as
    each look waits for the device.
    """
    if not dist.is_initialized():
        return own
    return (share.device.type == "cpu" or step % 20 == 0) and share.item() > 0
