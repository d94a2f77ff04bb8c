"""MACs and params of a standalone network, for the check of stored costs.

The lookup table counts with thop, block by block; this counts a whole network in milliseconds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.space import Architecture, SearchSpace
from model.subnet import Subnet, count_params
from model.supernet import IN_CHS


@torch.no_grad()
def count_costs(space: SearchSpace, architecture: Architecture) -> dict[str, int]:
    """Count MACs (`flops`) and params of an architecture [L], without computing anything.

    MACs are of Conv2d and Linear only, one multiply-accumulate being 1.
    """
    macs = 0

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal macs  # each element of the output takes one filter's weights
        macs += output.numel() * module.get_parameter("weight")[0].numel()

    with torch.device("meta"):  # no memory, no random numbers
        net = Subnet(space, architecture).eval()
        for module in net.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.register_forward_hook(count)
        net(torch.empty(1, IN_CHS, space.input_size, space.input_size))
    return {"flops": macs, "params": count_params(net)}
