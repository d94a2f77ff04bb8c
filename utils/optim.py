"""Optimisers and learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR


class Recipe(Protocol):
    """The flags of a training that its loop uses; durations are in epochs."""

    @property
    def epochs(self) -> int: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def lr(self) -> float: ...
    @property
    def momentum(self) -> float: ...
    @property
    def nesterov(self) -> bool: ...
    @property
    def rmsprop_alpha(self) -> float: ...
    @property
    def rmsprop_eps(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def decay_all(self) -> bool: ...
    @property
    def lr_scheduler(self) -> str: ...
    @property
    def decay_step(self) -> float: ...
    @property
    def decay_ratio(self) -> float: ...
    @property
    def warmup_epochs(self) -> int: ...
    @property
    def amp(self) -> str: ...
    @property
    def grad_clip(self) -> float | None: ...
    @property
    def on_nan(self) -> str: ...


def decay_groups(module: nn.Module, decay_all: bool = False) -> list[dict]:
    """Group parameters for `build_optimizer`.

    Args:
        decay_all: decay BN parameters and biases too.
    """
    if decay_all:
        return [{"params": list(module.parameters())}]
    vectors = [p for p in module.parameters() if p.dim() <= 1]  # BN and biases
    kernels = [p for p in module.parameters() if p.dim() > 1]
    groups: list[dict] = [{"params": kernels}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]  # a SPOS supernet has no vectors


def build_optimizer(
    name: str,
    params: Iterable[nn.Parameter] | list[dict],
    lr: float,
    momentum: float,
    weight_decay: float,
    *,
    nesterov: bool = True,
    alpha: float = 0.99,
    eps: float = 1e-8,
) -> Optimizer:
    """Make an optimiser.

    Args:
        momentum: also the first beta of Adam and AdamW.
        nesterov: of SGD with momentum.
        alpha, eps: of RMSprop: decay of the mean square, and what is added to its root.
    """
    groups: list[Any] = list(params)
    first = groups[0]["params"][0] if isinstance(groups[0], dict) else groups[0]
    fused = first.device.type in ("cpu", "cuda")  # one pass over each tensor
    if name == "sgd":
        nesterov = nesterov and momentum > 0  # SGD refuses it without momentum
        optimizer = SGD(groups, lr, momentum, 0, weight_decay, nesterov, fused=fused)
        prime_momentum(optimizer)
        optimizer.register_load_state_dict_post_hook(prime_momentum)  # loading replaces the state
        return optimizer
    if name == "rmsprop":
        return RMSprop(groups, lr, alpha, eps, weight_decay, momentum)
    kind = {"adam": Adam, "adamw": AdamW}[name]
    return kind(groups, lr, betas=(momentum, 0.999), weight_decay=weight_decay, fused=fused)


def state_size(name: str, momentum: float) -> int:
    """Count the tensors that an optimiser keeps for each parameter."""
    return {"sgd": int(momentum > 0), "rmsprop": 1 + int(momentum > 0), "adam": 2, "adamw": 2}[name]


def prime_momentum(optimizer: Optimizer) -> None:
    """Give every parameter a momentum buffer of zeros, with which its first step is the same.

    Fused SGD cannot step parameters of which only some have a buffer, as those of a new path do
    not. A parameter without a gradient is not touched, nor its buffer: neither momentum nor decay
    acts on a multi-path supernet's choices that a step did not take. The unused part of a
    superkernel does move: its gradient is 0, not None, as it is of the same parameter.
    """
    for group in optimizer.param_groups:
        for p in group["params"] if group["momentum"] else ():
            if optimizer.state[p].get("momentum_buffer") is None:
                optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)


def build_scheduler(optimizer: Optimizer, recipe: Recipe, steps_per_epoch: int) -> LambdaLR:
    """Make the schedule of a recipe, to be stepped after every optimiser step.

    Linear warm-up; then cosine and linear go from 1 to 0 after the last step, and step multiplies
    by `decay_ratio` every `decay_step` epochs, counted from the start of training.
    """
    warmup = recipe.warmup_epochs * steps_per_epoch
    total = recipe.epochs * steps_per_epoch
    decay_steps = recipe.decay_step * steps_per_epoch  # may be fractional

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup  # the first step is not at 0
        if recipe.lr_scheduler == "step":
            return recipe.decay_ratio ** (step // decay_steps)
        done = (step - warmup) / max(1, total - warmup)
        return 0.5 * (1 + math.cos(math.pi * done)) if recipe.lr_scheduler == "cosine" else 1 - done

    return LambdaLR(optimizer, factor)
