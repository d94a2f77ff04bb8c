"""Differentiable search (DARTS, https://arxiv.org/abs/1806.09055, algorithm 1, first order).

Training the supernet is the search: after each weight step on a training batch, the architecture
parameters take a step on a batch of the other part of the training images (`--train-portion`).
What remains is to read the architecture off them: the most probable one within the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from lookup_table import Budget
from lookup_table.knapsack import most_probable
from lookup_table.table import MILLION
from model.supernet import frozen
from sampler import ArchitectureSampler, ThresholdSampler
from search_strategy.convergence import entropies, entropy_share
from search_strategy.hardware_loss import HardwareLoss

Batch = tuple[Tensor, Tensor]  # images [B, 3, H, W], labels [B]
SEEN = ("ce", "constraint", "gradient_norm", "steps")  # summed over the steps of an epoch


class StatefulBatches(Protocol):
    """Batches (images [B, 3, H, W], labels [B]) that repeat from a state between two passes."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> None: ...


class EndlessBatches:
    """One pass after another; its state can be taken anywhere, also in the middle of a pass."""

    def __init__(self, batches: StatefulBatches) -> None:
        self.batches = batches
        self._begin()

    def _begin(self) -> None:
        self.start = self.batches.state_dict()
        self.drawn = 0
        self.iterator = iter(self.batches)

    def __next__(self) -> tuple[Tensor, Tensor]:
        for _ in range(2):
            for batch in self.iterator:
                self.drawn += 1
                return batch
            self._begin()
        raise AssertionError("a pass has at least one batch")

    def state_dict(self) -> dict:
        return {"start": self.start, "drawn": self.drawn}

    def load_state_dict(self, state: dict) -> None:
        self.batches.load_state_dict(state["start"])
        self._begin()
        for _ in range(state["drawn"]):
            next(self)


class ArchitectureTraining:
    """The architecture's half of the alternation, and all its state.

    Args:
        sampler: holds the parameters.
        supernet: its weights are used and not changed by `step`, but its BN statistics are.
        batches: images of the part that does not train the weights.
        optimizer: of `sampler.alpha`.
        hardware: the constraint.
        warmup_epochs: epochs in which only the weights are trained, without the constraint.
        temperature: epoch -> temperature, for samplers that have one.
        checkpoint: keep no activations of weighted choices.
        average_gradients: over processes that share each batch; returns the scalars, averaged.
        every: weight steps per architecture step.
        one_level: parameters learn from the weights' batches, not from `batches`.
    """

    def __init__(
        self,
        sampler: ArchitectureSampler,
        supernet: nn.Module,
        batches: StatefulBatches,
        optimizer: Optimizer,
        hardware: HardwareLoss,
        warmup_epochs: int = 0,
        temperature: Callable[[int], float] = lambda epoch: 1.0,
        checkpoint: bool = False,
        average_gradients: Callable[..., Sequence[Tensor]] = lambda parameters, *scalars: scalars,
        every: int = 1,
        one_level: bool = False,
    ) -> None:
        self.sampler = sampler
        self.supernet = supernet
        self.weights = [w for w in supernet.parameters() if w.requires_grad]
        self.batches = EndlessBatches(batches)
        self.optimizer = optimizer
        self.hardware = hardware
        self.warmup_epochs = warmup_epochs
        self.temperature = temperature
        self.checkpoint = checkpoint
        self.average_gradients = average_gradients
        self.every = every
        self.one_level = one_level
        self.seen = torch.zeros(len(SEEN), dtype=torch.float64)

    def start_epoch(self, epoch: int) -> None:
        self.sampler.temperature = self.temperature(epoch)
        self.sampler.warming_up = epoch < self.warmup_epochs

    def weight_loss(self, ce: Tensor) -> Tensor:
        """A superkernel's weights feel the constraint through their norms (1904.02877, eq. 9)."""
        if isinstance(self.sampler, ThresholdSampler) and not self.sampler.warming_up:
            return self.hardware(ce, self.sampler.decisions())
        return ce

    def step(self, epoch: int, number: int = 0, batch: Batch | None = None) -> None:
        """One update of the architecture parameters, if it is time for one.

        Args:
            number: of the weight step just done, counted from 1 over the whole run.
            batch: images and labels of that step, for `one_level`.
        """
        if epoch < self.warmup_epochs or number % self.every:
            return
        if not self.one_level or batch is None:
            batch = next(self.batches)
        images, labels = batch
        drawn = self.sampler.draw()
        alpha = self.sampler.alpha
        with frozen(self.weights):
            logits = self.supernet(images, drawn.weights, drawn.used, self.checkpoint)
            ce = F.cross_entropy(logits, labels)
            loss = self.hardware(ce, drawn.probabilities)
            # a network in which no gate is left to train has no gradient at all
            (alpha.grad,) = torch.autograd.grad(loss, [alpha], allow_unused=True)
        ce, loss = self.average_gradients([alpha], ce.detach(), loss.detach())
        before = alpha.detach().clone()
        self.optimizer.step()
        self.sampler.after_update(drawn, before)
        norm = torch.zeros(()) if alpha.grad is None else alpha.grad.norm()
        parts = [part.double() for part in (ce, loss - ce, norm.to(ce.device), torch.ones_like(ce))]
        self.seen = self.seen.to(ce.device) + torch.stack(parts)

    @torch.no_grad()
    def summary(self) -> dict[str, float]:
        """State of the parameters, and means over the steps since `start_epoch`.

        Entropy of a layer (nats, mean; share of uniform), expected cost (millions or ms; share of
        the target), cross-entropy and constraint of the steps, norm of their gradients,
        temperature.
        """
        p = self.sampler.probabilities()
        cost = float(self.hardware.expected_cost(self.sampler.cost_probabilities())) / MILLION
        values = {
            "entropy": entropies(p.double().numpy()).mean(),
            "entropy_share": entropy_share(p.double().numpy(), self.sampler.num_choices),
            "expected_cost": cost,
        }
        if self.hardware.target is not None:
            values["expected_over_target"] = cost * MILLION / self.hardware.target
        if self.sampler.uses_temperature:
            values["temperature"] = self.sampler.temperature
        *sums, steps = self.seen.tolist()
        if steps:
            values |= {name: total / steps for name, total in zip(SEEN, sums, strict=False)}
        return values

    def end_epoch(self) -> None:
        """Forget the steps of the epoch."""
        self.seen = torch.zeros(len(SEEN), dtype=torch.float64)

    def state_dict(self) -> dict:
        return {
            **self.sampler.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "batches": self.batches.state_dict(),
            "seen": self.seen.tolist(),
        }

    def load_state_dict(self, state: dict) -> None:
        self.sampler.load_state_dict(state)
        self.optimizer.load_state_dict(state["optimizer"])
        self.batches.load_state_dict(state["batches"])
        self.seen = torch.tensor(state["seen"], dtype=torch.float64)


class DifferentiableSearch:
    """Ask-tell: asks for one architecture, the most probable within the budget.

    `prior` [L, C] are the probabilities of the trained supernet, set before it is asked.
    """

    total = 1

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.prior: np.ndarray | None = None
        self.asked = False

    def ask(self) -> np.ndarray:
        """int [1, L], then none."""
        assert self.prior is not None
        found = most_probable(self.prior, self.budget)[None]
        return found[:0] if self.asked else found

    def tell(self, architectures: np.ndarray, scores: np.ndarray) -> None:
        self.asked = True

    def unconstrained(self) -> np.ndarray:
        """The most probable architecture of all, int [L]."""
        assert self.prior is not None
        return argmax_architecture(self.prior, self.budget.counts.num_choices)


def argmax_architecture(probabilities: np.ndarray, num_choices: Iterable[int]) -> np.ndarray:
    """The most probable choice of each layer, int [L]."""
    return np.array(
        [int(row[:n].argmax()) for row, n in zip(probabilities, num_choices, strict=True)]
    )


def log_probability(probabilities: np.ndarray, architecture: np.ndarray) -> float:
    """Of an architecture [L] whose layers are independent, in nats."""
    chosen = probabilities[np.arange(len(architecture)), architecture]
    return float(np.log(np.maximum(chosen, 1e-300)).sum())
