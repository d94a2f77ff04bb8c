"""Training steps in a checkout of the project, one for every line of standard input.

python -m benchmarks._step ROOT SPACE INPUT_SIZE BATCH SAMPLER

A worker of small_maps.py, which compares checkouts: it prints the seconds of each step, and uses of
a checkout only what commit 68b736b had. A step is zero_grad, forward, backward, clipping and the
optimiser; with `softmax` and `gumbel` a step of the architecture parameters comes after it. With
`score` it is the evaluation of a random network: a quarter of the batch calibrates, the rest
validates, as in the default search.
"""

import sys
import time

sys.path.insert(0, sys.argv[1])

import numpy as np
import torch
from torch import nn

from model import build_supernet, load_space
from sampler import GumbelSampler, SoftmaxSampler, UniformSampler
from search_strategy.evaluator import Evaluator
from utils.optim import build_optimizer

try:
    from sampler.alpha import ArchitectureTraining
    from utils.device import tune_malloc
except ImportError:  # as older checkouts have them
    from search_strategy import ArchitectureTraining
    from utils.device import keep_freed_memory as tune_malloc

SAMPLERS = {
    "uniform": UniformSampler,
    "score": UniformSampler,
    "softmax": SoftmaxSampler,
    "gumbel": GumbelSampler,
}


def main() -> None:
    name, size, batch, sampler_name = sys.argv[2], *map(int, sys.argv[3:5]), sys.argv[5]
    tune_malloc()
    torch.manual_seed(0)
    space = load_space(name, size, 10)
    net = build_supernet(space).to(memory_format=torch.channels_last).train()
    sampler = SAMPLERS[sampler_name](space.num_choices, np.random.default_rng(0))
    parameters = list(net.parameters())
    optimizer = build_optimizer("adamw", parameters, 1e-3, 0.6, 0.01)
    images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,))

    class Batches:
        """The part of a loader that an architecture step uses."""

        def __iter__(self):
            yield images, labels

        def state_dict(self) -> dict:
            return {}

    cut = batch // 4
    evaluator = Evaluator(net, [images[:cut]], [(images[cut:], labels[cut:])])
    alpha = getattr(sampler, "alpha", None)
    if alpha is not None:
        rest = torch.optim.SGD([alpha], 0.05), lambda ce, probabilities: ce
        architecture = ArchitectureTraining(sampler, net, Batches(), *rest)

    def step() -> None:
        if sampler_name == "score":
            evaluator(np.stack([sampler.rng.integers(0, space.num_choices)]))
            return
        optimizer.zero_grad(set_to_none=True)
        for path in sampler.step_paths():
            nn.functional.cross_entropy(net(images, path), labels).backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        if alpha is not None:
            architecture.step(0)

    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
