"""What several test files share: batches, supernets, tables, and independent references."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lookup_table import Budget, BudgetCounts, LookupTable
from model import SearchSpace, Subnet, Supernet, build_supernet, inherit_weights
from model.supernet import build_choice
from sampler import ArchitectureSampler, BinaryGateSampler, GumbelSampler, SoftmaxSampler
from search_strategy.evolution import EvolutionConfig, EvolutionSearch

CPU = torch.device("cpu")
NARROW = {  # widths that leave the structure and take a tenth of the time
    **dict.fromkeys(("fbnet", "proxylessnas", "singlepath"), [8] * 9),
    "nas_bench_macro": [8] * 5,
    "spos": [8, 16, 24, 32, 40, 8],
}


def batches(n: int, size: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """n batches of 20 and one of 7."""
    g = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(b, 3, size, size, generator=g), torch.randint(0, 10, (b,), generator=g))
        for b in [20] * n + [7]
    ]


def trained_like(space: SearchSpace) -> Supernet:
    """A supernet whose BN statistics are no longer at their start."""
    torch.manual_seed(0)
    supernet = build_supernet(space)
    for m in supernet.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2)
            if m.affine:
                m.weight.data.uniform_(0.5, 1.5)
                m.bias.data.normal_(0, 0.3)
    return supernet.train()


def plain_network(supernet, space, architecture, calibration, dtype=torch.float32) -> Subnet:
    """A standalone network, its BN reset and averaged over the calibration batches."""
    subnet = Subnet(space, architecture)
    inherit_weights(subnet, supernet, architecture)
    for m in subnet.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.reset_running_stats()
            m.momentum = None
    subnet.to(dtype).train()
    subnet.head.dropout.eval()
    with torch.no_grad():
        for images in calibration:
            subnet(images.to(dtype))
    return subnet.eval()


def all_codes(space: SearchSpace | LookupTable) -> np.ndarray:
    return np.array(list(itertools.product(*map(range, space.num_choices))))


def built(space: SearchSpace, architecture: np.ndarray) -> str:
    """The modules of the standalone network in order, without what does nothing."""
    blocks = [repr(build_choice(space, i, int(c), space.style)) for i, c in enumerate(architecture)]
    return "".join(block for block in blocks if block != "Identity()")


def independent_counts(space: SearchSpace, architecture: np.ndarray) -> tuple[int, int]:
    """MACs by PyTorch's own counter (2 FLOPs a MAC; conv and matmul only), params by numel."""
    subnet = Subnet(space, architecture).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        subnet(torch.zeros(1, 3, space.input_size, space.input_size))
    return counter.get_total_flops() // 2, sum(p.numel() for p in subnet.parameters())


def in_size(table: LookupTable, factor: int) -> LookupTable:
    """The table of a space whose networks cost `factor` times as much."""
    costs = {metric: factor * rows for metric, rows in table.costs.items()}
    fixed = {metric: factor * cost for metric, cost in table.fixed.items()}
    return dataclasses.replace(table, costs=costs, fixed=fixed)


def architecture_sampler(
    kind: str, num_choices: np.ndarray, seed: int = 0, random_alpha: torch.dtype | None = None
) -> ArchitectureSampler:
    """A sampler by a short name; `random_alpha`: normal parameters of that dtype."""
    rng = np.random.default_rng(seed)
    sampler = {
        "softmax": SoftmaxSampler,
        "gumbel": GumbelSampler,
        "gumbel_hard": functools.partial(GumbelSampler, hard=True),
        "binary": BinaryGateSampler,
        "binary_all": functools.partial(BinaryGateSampler, all_gates=True),
    }[kind](num_choices, rng)
    if random_alpha is not None:
        g = torch.Generator().manual_seed(0)
        alpha = torch.randn(sampler.alpha.shape, generator=g, dtype=random_alpha)
        sampler.alpha = alpha.requires_grad_()
    return sampler


def whole_budget(table: LookupTable) -> Budget:
    """All codes of a space."""
    return Budget(BudgetCounts(table, "flops"), None, None)


def evolution(
    budget: Budget, generations: int, population: int, parents: int, seed: int = 0, **options: float
) -> EvolutionSearch:
    config = EvolutionConfig(
        generation_num=generations, population=population, parent_num=parents, **options
    )
    return EvolutionSearch(config, budget, np.random.default_rng(seed))
