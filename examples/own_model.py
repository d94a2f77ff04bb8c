"""Search a chain-shaped network of your own blocks: here ResNet's, plain, bottleneck or wide.

python examples/own_model.py

A block is a function (in_chs, out_chs, stride, style) -> nn.Module with a name; a search space is
a YAML that says where each name may stand. Everything else is the toolkit's: supernet, costs,
budget, search, standalone network.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # installed: from oneshot_nas.model

from config_file.arg_config.sources import settings
from lookup_table import build_budget, parse_limit
from lookup_table.builder import load_table
from model import BLOCKS, BlockStyle, Subnet, conv_bn
from search_strategy.evaluator import Evaluator
from search_strategy.evolution import EvolutionConfig, EvolutionSearch
from search_strategy.history import History, run_search
from train_supernet import TrainSupernetConfig, load_inputs, new_supernet, train
from utils.tracker import Tracker

SPACE = """
name: resnet_like
supernet: multipath
choices: [plain, bottleneck, wide, skip]
stem: {width: 16, stride: 1}
first: null
stages:
  - {width: 16, layers: 2, stride: 1}
  - {width: 32, layers: 2, stride: 2}
last: 64
activation: relu
expand_e1: false
small_images: as_is
classifier: {bias: true, dropout: 0.0}
bn: {eps: 1.0e-5, affine_in_supernet: true}
"""


class Residual(nn.Module):
    """Convolutions of (channels, kernel) in turn, and a shortcut [B, in, H, W] -> [B, out, ...]."""

    def __init__(
        self, in_chs: int, stride: int, convs: list[tuple[int, int]], style: BlockStyle
    ) -> None:
        super().__init__()
        out_chs, chs = convs[-1][0], [in_chs, *(c for c, _ in convs)]
        # conv_bn, not nn.Conv2d and nn.BatchNorm2d: searches re-estimate its batch norm per network
        self.branch = nn.Sequential(
            *(
                conv_bn(chs[i], c, k, stride if i == 0 else 1, style, act=i + 1 < len(convs))
                for i, (c, k) in enumerate(convs)
            )
        )
        same = stride == 1 and in_chs == out_chs
        self.shortcut = (
            nn.Identity() if same else conv_bn(in_chs, out_chs, 1, stride, style, act=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.branch(x) + self.shortcut(x))


BLOCKS["plain"] = lambda i, o, s, style: Residual(i, s, [(o, 3), (o, 3)], style)
BLOCKS["bottleneck"] = lambda i, o, s, style: Residual(
    i, s, [(o // 4, 1), (o // 4, 3), (o, 1)], style
)
BLOCKS["wide"] = lambda i, o, s, style: Residual(i, s, [(2 * o, 3), (o, 3)], style)


def main(epochs: int = 15) -> None:
    folder = Path(tempfile.mkdtemp())
    (folder / "resnet_like.yaml").write_text(SPACE)
    config = settings(
        TrainSupernetConfig, search_space=folder / "resnet_like.yaml", device="cpu", epochs=epochs
    )
    splits, space = load_inputs(config, torch.device("cpu"))
    supernet = new_supernet(config, space, torch.device("cpu"))
    train(supernet, splits.train, config, folder / "supernet.pt", Tracker(folder))

    table = load_table(space)
    budget = build_budget(table, [parse_limit("flops=50%").resolve(table)])
    calibration = [images for images, _ in splits.calibration][:4]
    evaluate = Evaluator(supernet, calibration, splits.validation)
    flags = EvolutionConfig(population=10, parent_num=4, generation_num=4)
    strategy = EvolutionSearch(flags, budget, np.random.default_rng(0))
    history = run_search(strategy, evaluate, History(space, table))

    best = history.best("flops")
    architecture = history.architectures[best]
    print(f"{len(history)} of {space.size} networks scored; the best within the budget:")
    print(" ".join(space.decode(architecture)))
    print(f"{history.cost('flops')[best] / 1e6:.2f} M MACs, validation {history.top1[best]:.1f} %")
    print(f"{sum(p.numel() for p in Subnet(space, architecture).parameters()):,} parameters")


if __name__ == "__main__":
    main()
