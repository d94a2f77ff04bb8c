"""What does the gradient of alpha say about single networks, and when?

python -m benchmarks.alpha_signal fbnet --out runs/gradient --epochs 4 9 40

Supernets are trained by uniform paths for so many epochs. On each, the gradient of alpha at equal
probabilities is averaged over steps of each sampler, and correlated over all choices with what they
are worth: effects fitted to the scores of random networks by the supernets of
benchmarks.gradient_search, which it shares --out with. A row per sampler goes to alpha_signal.csv.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks._judge import Reference, Table
from config_file.arg_config.fields import Parser
from config_file.arg_config.types import count
from model import Supernet
from model.supernet import frozen
from sampler import ArchitectureSampler, BinaryGateSampler, GumbelSampler, SoftmaxSampler
from sampler.alpha import EndlessBatches
from search_strategy.additive import fit_effects
from utils.device import seed_everything
from utils.errors import user_errors

SEED = 5  # of the supernets
NETWORKS = 600  # random ones, whose scores the effects are fitted to
SUMS = 4  # steps that run all choices take several times as long: fewer by this factor


def samplers(num_choices: np.ndarray) -> dict[str, ArchitectureSampler]:
    """Return the samplers with alpha at 0, by name; the Gumbel ones at several temperatures."""
    rng = np.random.default_rng(0)
    made: dict[str, ArchitectureSampler] = {
        "binary": BinaryGateSampler(num_choices, rng),
        "binary, all gates": BinaryGateSampler(num_choices, rng, all_gates=True),
        "softmax": SoftmaxSampler(num_choices, rng),
    }
    for temperature in (5.0, 1.0, 0.3):
        for name, hard in (("gumbel-hard", True), ("gumbel", False)):
            sampler = GumbelSampler(num_choices, rng, hard)
            sampler.temperature = temperature
            made[f"{name}, temperature {temperature:g}"] = sampler
    return made


def gradients(
    supernet: Supernet, sampler: ArchitectureSampler, batches: EndlessBatches, steps: int
) -> np.ndarray:
    """Return minus the gradient of the cross-entropy with respect to alpha, [steps, L, C]."""
    found: list[Tensor] = []
    with frozen(list(supernet.parameters())):
        for _ in range(steps):
            images, labels = next(batches)
            drawn = sampler.draw()
            loss = F.cross_entropy(supernet(images, drawn.weights, drawn.used), labels)
            found += torch.autograd.grad(loss, [sampler.alpha])
    return -torch.stack(found).numpy()


def signal(steps: np.ndarray, effects: np.ndarray, exists: np.ndarray) -> dict[str, float]:
    """Compare gradients [steps, L, C] with the effects of choices [L, C] where these exist."""

    def within_layers(values: np.ndarray) -> np.ndarray:
        means = (values * exists).sum(1, keepdims=True) / exists.sum(1, keepdims=True)
        return (values - means)[exists]

    mean, noise = steps.mean(0)[exists], np.square(steps.std(0)[exists]).mean()
    power = np.square(mean).mean() - noise / len(steps)  # without what the noise of the mean adds
    halves = [within_layers(steps[start::2].mean(0)) for start in (0, 1)]
    total, worth = within_layers(steps.mean(0)), within_layers(effects)
    return {
        "signal_to_noise": round(float(np.sqrt(max(power, 0) / noise)), 3),
        "halves": round(float(np.corrcoef(*halves)[0, 1]), 2),
        "with_effects": round(float(np.corrcoef(total, worth)[0, 1]), 2),
    }


def measure(args: Namespace) -> None:
    """Train what is missing and write a row per number of epochs and sampler."""
    table, name = Table(args.out / "alpha_signal.csv"), args.space
    reference = Reference(name, args, NETWORKS)
    space = reference.space
    effects = fit_effects(reference.networks, reference.random, space.num_choices)
    exists = np.arange(space.max_choices) < space.num_choices[:, None]  # [L, C]
    for epochs in args.epochs:
        supernet = reference.supernet(f"uniform_{name}_{epochs}", args, epochs, SEED).train()
        for kind, sampler in samplers(space.num_choices).items():
            key = {"space": name, "epochs": epochs, "sampler": kind}
            if table.has(**key):
                continue
            one_path = isinstance(sampler, BinaryGateSampler) or "hard" in kind
            steps = args.steps if one_path else args.steps // SUMS
            batches = EndlessBatches(reference.splits.alpha_train)
            found = gradients(supernet, sampler, batches, steps)
            table.add({**key, "steps": steps, **signal(found, effects, exists)})


@user_errors
def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("space", choices=("proxylessnas", "fbnet", "spos"))
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and tables")
    parser.add_argument("--epochs", type=count, nargs="+", default=[4, 9, 40])
    parser.add_argument("--steps", type=count, default=300, help="architecture steps per row")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    seed_everything(0)
    measure(args)


if __name__ == "__main__":
    main()
