"""The default search against the loop that one usually writes for it, end to end on digits.

python -m benchmarks.baseline --epochs 2 --generations 3 --population 20
python -m benchmarks.baseline                        # the defaults of search.py: takes long

The usual loop: a ModuleList of choices, one SGD over all parameters, gradients zeroed in place, a
DataLoader, in evolution thop on every candidate to learn whether it is within the budget (drawn
again until it is), and every candidate calibrated and evaluated alone, in full. Same blocks,
images, batch size, epochs and number of candidates. Each side is a process; they take turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import warnings

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks._common import ROOT, hardware, run_python
from config_file.arg_config.data_config import AugmentConfig, DataConfig
from config_file.arg_config.fields import Parser
from data import load_splits
from lookup_table import BudgetCounts
from lookup_table.builder import load_table
from model import SearchSpace, Subnet, load_space
from model.supernet import build_choice, build_first, build_head, build_stem

BATCH, EVAL_BATCH, LR = 32, 90, 0.05


class PlainSupernet(nn.Module):
    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        style = dataclasses.replace(space.style, bn_affine=space.affine_in_supernet)
        self.stem, self.first = build_stem(space, style), build_first(space, style)
        self.layers = nn.ModuleList(
            nn.ModuleList(build_choice(space, i, c, style) for c in range(len(layer.choices)))
            for i, layer in enumerate(space.layers)
        )
        self.head = build_head(space, style)

    def forward(self, x: Tensor, path: np.ndarray) -> Tensor:
        x = self.first(self.stem(x))
        for choices, c in zip(self.layers, path, strict=True):
            x = choices[c](x)
        return self.head(x)


def thop_macs(space: SearchSpace, path: np.ndarray) -> int:
    from thop import profile

    net = Subnet(space, path)
    image = torch.zeros(1, 3, space.input_size, space.input_size)
    return int(profile(net, inputs=(image,), verbose=False)[0])


def dataset(loader) -> TensorDataset:
    return TensorDataset(*(torch.cat(tensors) for tensors in zip(*loader, strict=True)))


@torch.no_grad()
def evaluate(net: PlainSupernet, path: np.ndarray, train: DataLoader, validation: DataLoader):
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.reset_running_stats()
            m.momentum = None
    net.train()
    net(next(iter(train))[0], path)
    net.eval()
    hits = [(net(x, path).argmax(1) == y).float() for x, y in validation]
    return 100 * torch.cat(hits).mean().item()


def plain_search(args: argparse.Namespace) -> float:
    """The best validation top-1 that the usual loop finds, in percent."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    digits = DataConfig(input_size=8, eval_batch_size=EVAL_BATCH)
    splits = load_splits(digits, AugmentConfig(augment=True), BATCH, 0, torch.device("cpu"))
    space = load_space("proxylessnas", 8, 10)
    limit = BudgetCounts(load_table(space), "flops").median
    train = DataLoader(dataset(splits.calibration), BATCH, shuffle=True, drop_last=True)
    calibration = DataLoader(dataset(splits.calibration), EVAL_BATCH, shuffle=True)
    validation = DataLoader(dataset(splits.validation), EVAL_BATCH)
    net = PlainSupernet(space).train()
    optimizer = torch.optim.SGD(net.parameters(), LR, momentum=0.9, weight_decay=1e-4)
    for _ in range(args.epochs):
        for images, labels in train:
            optimizer.zero_grad(set_to_none=False)
            F.cross_entropy(net(images, rng.integers(0, space.num_choices)), labels).backward()
            optimizer.step()

    def within(draw) -> np.ndarray:
        while thop_macs(space, path := draw()) > limit:
            pass
        return path

    def fresh() -> np.ndarray:
        return rng.integers(0, space.num_choices)

    scored: list[tuple[float, np.ndarray]] = []
    for generation in range(args.generations):
        parents = [path for _, path in scored[:10]]

        def child(parents=parents) -> np.ndarray:
            a, b = (parents[i] for i in rng.integers(len(parents), size=2))
            if rng.random() < 0.5:
                return np.where(rng.random(len(a)) < 0.5, a, b)
            return np.where(rng.random(len(a)) < 0.1, fresh(), a)

        paths = [within(child if generation else fresh) for _ in range(args.population)]
        scored += [(evaluate(net, path, calibration, validation), path) for path in paths]
        scored.sort(key=lambda pair: -pair[0])
    return scored[0][0]


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--generations", type=int, default=20)
    parser.add_argument("--population", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="run the usual loop alone")
    args = parser.parse_args()
    if args.plain:
        print(f"best validation top-1: {plain_search(args):.2f} %")
        return
    flags = ["--epochs", str(args.epochs), "--population", str(args.population)]
    generations = str(args.generations)
    ours = [str(ROOT / "search.py"), *flags, "--generation-num", generations]
    plain = ["-m", "benchmarks.baseline", "--plain", *flags, "--generations", generations]
    sides = {"usual loop": plain, "search.py": [*ours, "--no-random-control"]}
    results: dict[str, list[tuple[float, float, str]]] = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, words in sides.items():
            results[name].append(run_python(*words))
    print(hardware())
    for name, runs in results.items():
        wall, cpu = (statistics.median(run[i] for run in runs) for i in (0, 1))
        line = next(x for x in runs[-1][2].splitlines() if "top-1" in x)
        top1 = " ".join(line.split())
        print(f"  {name:<12}{wall:8.1f} s wall {cpu:8.1f} s of processor   {top1}")
    for i, kind in enumerate(("wall", "processor")):
        pairs = zip(results["usual loop"], results["search.py"], strict=True)
        print(f"  {kind}: {statistics.median(a[i] / b[i] for a, b in pairs):.2f} times as fast")


if __name__ == "__main__":
    main()
