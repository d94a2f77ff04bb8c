"""Time and memory of a step of each training mode, as ratios to the single-path step.

python -m benchmarks.training_modes                        # proxylessnas, 32 px, batch 32
python -m benchmarks.training_modes --space fbnet --repeats 20
python -m benchmarks.training_modes --bias 400             # what --gumbel-sampled-gradient costs

Times are medians of interleaved repeats in one process, all modes on the same random numbers.
Memory is the peak above what weights and gradients take: of the device on CUDA, else of the
resident set, each mode in a process of its own.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable
from multiprocessing import get_context

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks._common import interleaved, peak_mib, reset_peak, resident
from config_file.arg_config.fields import Parser
from model import Subnet, Supernet, build_supernet, count_params, load_space
from sampler import BinaryGateSampler, GumbelSampler, SoftmaxSampler, UniformSampler
from utils.device import tune_malloc

Step = Callable[[], None]
SINGLE = "single path"
SAMPLED_STEPS = 30  # of which the largest counts


def modes(net: Supernet, x: Tensor, y: Tensor) -> dict[str, Step]:
    """Return each mode's weight step and, where it has one, architecture step."""
    num_choices = net.space.num_choices

    def rng() -> np.random.Generator:
        return np.random.default_rng(0)

    def weights(sampler, checkpoint: bool = False) -> Step:
        def step() -> None:
            net.zero_grad(set_to_none=False)  # gradients stay allocated: not part of the peak
            for path in sampler.step_paths():
                F.cross_entropy(net(x, path, checkpoint=checkpoint), y).backward()

        return step

    def architecture(sampler, checkpoint: bool = False) -> Step:
        def step() -> None:
            drawn = sampler.draw()
            loss = F.cross_entropy(net(x, drawn.weights, drawn.used, checkpoint), y)
            torch.autograd.grad(loss, [sampler.alpha])

        return step

    softmax, gumbel = SoftmaxSampler(num_choices, rng()), GumbelSampler(num_choices, rng())
    hard = [GumbelSampler(num_choices, rng(), True, sampled) for sampled in (False, True)]
    binary = BinaryGateSampler(num_choices, rng())
    return {
        SINGLE: weights(UniformSampler(num_choices, rng())),
        "softmax, weights": weights(softmax),
        "softmax, architecture": architecture(softmax),
        "softmax checkpointed, weights": weights(softmax, True),
        "softmax checkpointed, architecture": architecture(softmax, True),
        "gumbel, weights": weights(gumbel),
        "gumbel checkpointed, weights": weights(gumbel, True),
        "gumbel hard, weights": weights(hard[0]),
        "gumbel hard exact, architecture": architecture(hard[0]),
        "gumbel hard sampled, architecture": architecture(hard[1]),
        "binary, weights": weights(binary),
        "binary, architecture": architecture(binary),
    }


def setting(options: argparse.Namespace) -> tuple[Supernet, Tensor, Tensor]:
    torch.manual_seed(0)
    tune_malloc()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    space = load_space(options.space, options.size, 10)
    net = build_supernet(space).to(device, memory_format=torch.channels_last).train()
    x = torch.randn(options.batch, 3, options.size, options.size, device=device)
    return net, x, torch.arange(options.batch, device=device) % 10


def median_times(steps: dict[str, Step], repeats: int) -> dict[str, float]:
    """Return seconds per step; all steps in turn, over and over."""
    return {name: statistics.median(t) for name, t in interleaved(steps, repeats).items()}


def peak_memory(name: str, options: argparse.Namespace) -> float:
    """Return the MB that steps need at most on top of weights and gradients.

    Sampled paths differ in size, so modes that sample are looked at for SAMPLED_STEPS paths.
    """
    torch.set_num_threads(1)
    net, x, y = setting(options)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    step = modes(net, x, y)[name]
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
    else:
        net.eval()  # warms up the libraries without the step's activations
        with torch.no_grad():
            net(x[:1], np.zeros(net.space.num_layers, dtype=int))
        net.train()
        before = resident("VmRSS") * 1024
    reset_peak(x.device)
    samples = name == SINGLE or name.startswith(("binary", "gumbel hard"))
    for _ in range(SAMPLED_STEPS if samples else 3):
        step()
    peak = peak_mib(x.device)
    assert peak is not None, "resident() would have failed before"
    return peak - before / 2**20


def all_memory(names: Iterable[str], options: argparse.Namespace) -> dict[str, float]:
    """Measure each mode in a process of its own."""
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return {name: pool.apply(peak_memory, (name, options)) for name in names}


def superkernel(options: argparse.Namespace) -> None:
    """Print the time of one kernel for all choices, over its largest network alone."""
    options = argparse.Namespace(**{**vars(options), "space": "singlepath"})
    net, x, y = setting(options)
    space = net.space
    largest = space.encode(["k5_e6"] * 20 + ["k3_e6"])
    alone = Subnet(space, largest).to(x.device, memory_format=torch.channels_last).train()
    thresholds = torch.zeros(space.num_layers, net.num_gates)
    rng = np.random.default_rng(0)

    def run(make: Callable[[], Tensor], module: torch.nn.Module) -> Step:
        def step() -> None:
            module.zero_grad(set_to_none=False)
            F.cross_entropy(make(), y).backward()

        return step

    steps = {
        "largest network alone": run(lambda: alone(x), alone),
        "superkernel, largest path": run(lambda: net(x, largest), net),
        "superkernel, thresholds": run(lambda: net(x, thresholds), net),
        "superkernel, random path": run(lambda: net(x, rng.integers(0, space.num_choices)), net),
    }
    times = median_times(steps, options.repeats)
    base = times["largest network alone"]
    print(f"\nsinglepath, {options.size} px, batch {options.batch}: time (largest alone = 1)")
    for name, seconds in times.items():
        print(f"{name:<40}{seconds / base:8.2f}")
    print(f"{'parameters of the superkernel':<40}{count_params(net) / count_params(alone):8.2f}")


def bias(options: argparse.Namespace) -> None:
    """Compare mean gradients of alpha over many draws: exact straight-through, sampled choices."""
    torch.manual_seed(0)
    space = load_space(options.space, 8, 10)
    net = build_supernet(space).train()
    x, y = torch.randn(16, 3, 8, 8), torch.arange(16) % 10
    means, halves = [], []
    for sampled in (False, True):
        sampler = GumbelSampler(space.num_choices, np.random.default_rng(0), True, sampled)
        gradients = []
        for _ in range(options.bias):
            drawn = sampler.draw()
            loss = F.cross_entropy(net(x, drawn.weights, drawn.used), y)
            gradients.append(torch.autograd.grad(loss, [sampler.alpha])[0].flatten())
        stacked = torch.stack(gradients)
        means.append(stacked.mean(0))
        halves.append(F.cosine_similarity(stacked[::2].mean(0), stacked[1::2].mean(0), dim=0))
    exact, sampled_mean = means
    print(f"\nhard Gumbel on {space.name}, 8 px, {options.bias} draws of the gradient of alpha")
    print(f"cosine of the means, sampled and exact  {F.cosine_similarity(*means, dim=0):8.2f}")
    difference = (sampled_mean - exact).norm() / exact.norm()
    print(f"norm of the difference / of the exact   {difference:8.2f}")
    print(f"cosine of two halves, exact (noise)     {halves[0]:8.2f}")


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--space", default="proxylessnas", help="a multi-path space")
    parser.add_argument("--size", type=int, default=32, help="px")
    parser.add_argument("--batch", type=int, default=32, help="images per step")
    parser.add_argument("--repeats", type=int, default=7, help="of each step")
    parser.add_argument("--bias", type=int, default=0, help="draws for the bias; 0 leaves it out")
    options = parser.parse_args()
    if options.bias:
        bias(options)
        return
    net, x, y = setting(options)
    steps = modes(net, x, y)
    times, memory = median_times(steps, options.repeats), all_memory(steps, options)
    print(f"{options.space}, {options.size} px, batch {options.batch}, {x.device.type}")
    print(f"{'step':<40}{'time':>8}{'memory':>8}{'ms':>10}{'MB':>8}")
    for name, seconds in times.items():
        ratios = seconds / times[SINGLE], memory[name] / memory[SINGLE]
        line = "".join(f"{r:8.2f}" for r in ratios)
        print(f"{name:<40}{line}{1e3 * seconds:10.0f}{memory[name]:8.0f}")
    superkernel(options)


if __name__ == "__main__":
    main()
