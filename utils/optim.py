"""Optimisers and learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR


def decay_groups(module: nn.Module) -> list[dict]:
    """Group parameters for `build_optimizer`: BN parameters and biases are not decayed."""
    vectors = [p for p in module.parameters() if p.dim() <= 1]
    kernels = [p for p in module.parameters() if p.dim() > 1]
    return [{"params": kernels}, {"params": vectors, "weight_decay": 0.0}]


def build_optimizer(
    name: str,
    params: Iterable[nn.Parameter] | list[dict],
    lr: float,
    momentum: float,
    weight_decay: float,
) -> Optimizer:
    """Make an optimiser; `momentum` is also the first beta of Adam and AdamW."""
    params = list(params)
    first = params[0]["params"][0] if isinstance(params[0], dict) else params[0]
    fused = first.device.type in ("cpu", "cuda")  # one pass over each tensor
    if name == "sgd":
        optimizer = SGD(
            params,
            lr,
            momentum=momentum,
            weight_decay=weight_decay,
            nesterov=momentum > 0,
            fused=fused,
        )
        prime_momentum(optimizer)
        optimizer.register_load_state_dict_post_hook(prime_momentum)
        return optimizer
    if name == "rmsprop":
        return RMSprop(params, lr, momentum=momentum, weight_decay=weight_decay)
    kind = {"adam": Adam, "adamw": AdamW}[name]
    return kind(params, lr, betas=(momentum, 0.999), weight_decay=weight_decay, fused=fused)


def state_size(name: str, momentum: float) -> int:
    """Number of tensors that an optimiser keeps for each parameter."""
    return {"sgd": int(momentum > 0), "rmsprop": 1 + int(momentum > 0), "adam": 2, "adamw": 2}[name]


def prime_momentum(optimizer: SGD) -> None:
    """Give every parameter a momentum buffer of zeros, with which its first step is the same.

    Fused SGD cannot step parameters of which only some have a buffer, as those of a new path do
    not. A parameter without a gradient is not touched, nor its buffer: neither momentum nor decay
    acts on paths that a step did not take.
    """
    for group in optimizer.param_groups:
        for p in group["params"] if group["momentum"] else ():
            if optimizer.state[p].get("momentum_buffer") is None:
                optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)


def lr_factor(
    step: int,
    total_steps: int,
    warmup_steps: int,
    name: str,
    decay_steps: int,
    decay_ratio: float,
) -> float:
    """Return the share of the base learning rate at a step: linear warm-up, then the schedule.

    cosine and linear go from 1 at the end of warm-up to 0 after the last step; step multiplies by
    `decay_ratio` every `decay_steps`, counted from the start of training.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if name == "step":
        return decay_ratio ** (step // decay_steps)
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done)) if name == "cosine" else 1 - done


def build_scheduler(
    optimizer: Optimizer,
    name: str,
    epochs: int,
    steps_per_epoch: int,
    warmup_epochs: int,
    decay_step: int,
    decay_ratio: float,
) -> LambdaLR:
    """Make a schedule to be stepped after every optimiser step. Durations are in epochs."""
    return LambdaLR(
        optimizer,
        lambda step: lr_factor(
            step,
            epochs * steps_per_epoch,
            warmup_epochs * steps_per_epoch,
            name,
            decay_step * steps_per_epoch,
            decay_ratio,
        ),
    )
