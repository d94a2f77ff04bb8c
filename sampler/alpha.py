"""The architecture step of differentiable training, and all its state.

Training the supernet is the search (DARTS, https://arxiv.org/abs/1806.09055, algorithm 1, first
order): after each weight step on a training batch, the architecture parameters take one step on a
batch of the validation part of the training images (`--train-portion`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.utils.tensorboard import SummaryWriter

from config_file.arg_config.sampling_config import AlphaConfig
from data import Loader
from lookup_table import Budget
from lookup_table.knapsack import most_probable
from lookup_table.table import MILLION
from model import SearchSpace
from model.supernet import frozen
from sampler.convergence import entropies, entropy_share, network_text
from sampler.hardware_loss import HardwareLoss
from utils.distributed import average_gradients
from utils.plots import probability_map
from utils.run_folder import log

if TYPE_CHECKING:
    from sampler.architecture import ArchitectureSampler

Batch = tuple[Tensor, Tensor]  # images [B, 3, H, W], labels [B]
LOGGED = {  # key of the summary -> its label in the log
    "expected_over_target": "E/T",
    "ce": "CE",
    "constraint": "constraint",
    "gradient_norm": "gradient norm",
}
SEEN = ("ce", "constraint", "gradient_norm", "steps")  # summed over the steps of an epoch


class EndlessBatches:
    """Endless passes over a loader; the state can be taken anywhere, also in mid-pass."""

    def __init__(self, batches: Loader) -> None:
        self.batches = batches
        self._begin()

    def _begin(self) -> None:
        self.start = self.batches.state_dict()  # before `iter` counts the epoch up
        self.drawn = 0
        self.iterator = iter(self.batches)

    def __next__(self) -> Batch:
        batch = next(self.iterator, None)
        if batch is None:  # the pass is over; a new one is not empty
            self._begin()
            batch = next(self.iterator)
        self.drawn += 1
        return batch

    def state_dict(self) -> dict:
        return {"start": self.start, "drawn": self.drawn}

    def load_state_dict(self, state: dict) -> None:
        self.batches.load_state_dict(state["start"])
        self._begin()
        for _ in range(state["drawn"]):  # batches have random crops: replay, do not jump
            next(self)


class ArchitectureTraining:
    """The architecture steps of the alternation, and all their state.

    Args:
        supernet: `step` does not change its weights, but does change its BN statistics.
        batches: images of the part that does not train the weights.
        optimizer: of `sampler.alpha`.
        hardware: the constraint.
        flags: warm-up, interval and images of the steps; by default there is no warm-up.
        temperature: maps the epoch to the temperature, for samplers that have one.
        checkpoint: recompute the activations of weighted choices instead of keeping them.
    """

    def __init__(
        self,
        sampler: ArchitectureSampler,
        supernet: nn.Module,
        batches: Loader,
        optimizer: Optimizer,
        hardware: HardwareLoss,
        flags: AlphaConfig | None = None,
        temperature: Callable[[int], float] = lambda epoch: 1.0,
        checkpoint: bool = False,
    ) -> None:
        self.sampler = sampler
        self.supernet = supernet
        self.weights = [w for w in supernet.parameters() if w.requires_grad]
        self.batches = EndlessBatches(batches)
        self.optimizer = optimizer
        self.hardware = hardware
        self.flags = flags or AlphaConfig(a_warmup_epochs=0)
        self.temperature = temperature
        self.checkpoint = checkpoint
        self.seen = torch.zeros(len(SEEN), dtype=torch.float64)

    def start_epoch(self, epoch: int) -> None:
        """Set the sampler's temperature and warm-up flag."""
        self.sampler.temperature = self.temperature(epoch)
        self.sampler.warming_up = epoch < self.flags.a_warmup_epochs

    def weight_loss(self, ce: Tensor) -> Tensor:
        """Add the constraint to a weight step's loss if the weights decide costs.

        A superkernel's weights do, by their norms (https://arxiv.org/abs/1904.02877, eq. 9).
        """
        if self.sampler.constrains_weights and not self.sampler.warming_up:
            return self.hardware(ce, self.sampler.cost_probabilities())
        return ce

    def step(self, epoch: int, number: int = 0, batch: Batch | None = None) -> None:
        """Update the architecture parameters, if an update is due.

        Args:
            epoch: counted from 0.
            number: of the weight step just done, counted from 1 over the whole run.
            batch: images and labels of that step, for `one_level`.
        """
        if epoch < self.flags.a_warmup_epochs or number % self.flags.a_every:
            return
        if not self.flags.one_level or batch is None:
            batch = next(self.batches)
        images, labels = batch
        drawn = self.sampler.draw()
        alpha = self.sampler.alpha
        with frozen(self.weights):  # saves the gradients of the weights, which nothing would use
            logits = self.supernet(images, drawn.weights, drawn.used, self.checkpoint)
            ce = F.cross_entropy(logits, labels)
            loss = self.hardware(ce, drawn.probabilities)
            # no gradient at all if no gate is left to train
            (alpha.grad,) = torch.autograd.grad(loss, [alpha], allow_unused=True)
        ce, loss = average_gradients([alpha], ce.detach(), loss.detach())
        before = alpha.detach().clone()  # `after_update` may set entries back to it
        self.optimizer.step()
        self.sampler.after_update(drawn, before)
        # ce and loss are on alpha's device by now, where `average_gradients` has put them
        norm = torch.zeros(()) if alpha.grad is None else alpha.grad.norm()
        parts = [part.double() for part in (ce, loss - ce, norm.to(ce.device), torch.ones_like(ce))]
        self.seen = self.seen.to(ce.device) + torch.stack(parts)

    @torch.no_grad()
    def summary(self) -> dict[str, float]:
        """Return the state of the parameters, and means over the steps since `end_epoch`.

        Entropies are in nats, per layer or relative to uniform choices, the expected cost in
        millions or ms.
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
            values |= {name: total / steps for name, total in zip(SEEN[:-1], sums, strict=True)}
        return values

    def end_epoch(self) -> None:
        """Reset the sums over the steps of the epoch."""
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


def write_architecture(
    architecture: ArchitectureTraining,
    budget: Budget,
    space: SearchSpace,
    writer: SummaryWriter,
    done: int,
) -> None:
    """Log the parameters after `done` epochs; TensorBoard also gets a map of probabilities."""
    numbers, sampler = architecture.summary(), architecture.sampler
    for tag, value in numbers.items():
        writer.add_scalar(f"arch/{tag}", value, done)
    probabilities = sampler.probabilities().detach().double().numpy()
    network = network_text(space, budget.counts, most_probable(probabilities, budget))
    writer.add_text("arch/network", network, done)
    parts = [f"{numbers['entropy_share']:.1%} of uniform entropy"]
    parts += [f"{label} {numbers[key]:.3g}" for key, label in LOGGED.items() if key in numbers]
    log.info(f"epoch {done}: {', '.join(parts)}; now {network}")
    figure = probability_map(probabilities, sampler.num_choices)
    writer.add_figure("arch/probabilities", figure, done)
