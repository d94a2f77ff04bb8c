"""Do differentiable searches converge, and is what they find good?

python -m benchmarks.gradient_search digits --out runs/gradient
python -m benchmarks.gradient_search macro --out runs/gradient_macro \
    --data-path datasets/cifar10_jpeg --benchmark nas_bench_macro.json

digits: the default search with each sampler and, as a control, by evolution. The answer is scored
on supernets of its own, trained by uniform paths with other seeds, on test images, beside random
networks within the budget. references.csv says how far these scores agree: between supernets, and
between the test images and the validation images that a search looks at. Where they do not, no
search can find what they rank high.

macro: supernets on CIFAR-10 at 16 px with MACs counted at 32 px. A warm-up by fair paths is the
start of all; the answer is the most probable network of known accuracy within the budget.

Rows go to digits.csv or macro.csv in --out. Started again, the benchmark does what is missing.
"""

from __future__ import annotations

import itertools
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch

from benchmarks._common import ROOT
from benchmarks._judge import Reference, Table, command, trained
from config_file.arg_config.fields import Parser
from config_file.arg_config.types import numbers
from lookup_table import Budget, BudgetCounts, Equivalence, LookupTable, architecture_keys
from lookup_table.builder import load_table
from lookup_table.table import MILLION
from lookup_table.user_table import user_table_text
from model import SearchSpace, load_architecture, load_space
from sampler.convergence import entropy_share, expected_cost
from search_strategy.benchmark import Benchmark
from utils.checkpoint import load_checkpoint
from utils.device import seed_everything
from utils.errors import user_errors
from utils.files import write_text

SAMPLERS = {
    "softmax": ["--sample-strategy", "softmax"],
    "gumbel": ["--sample-strategy", "gumbel"],
    "gumbel-hard": ["--sample-strategy", "gumbel", "--gumbel-hard"],
    "binary": ["--sample-strategy", "binary"],
}
ORDER = tuple(reversed(SAMPLERS))  # the quick ones first
DIGITS = [("singlepath", "threshold"), ("singlepath", "evolution")]
DIGITS += [(space, name) for name in (*ORDER, "evolution") for space in ("proxylessnas", "fbnet")]
COST_SIZE = 32  # px at which macro counts MACs, as the benchmark's trainings had
MACRO = "nas_bench_macro_gradient.yaml"


def probabilities(title: str, args: Namespace) -> np.ndarray:
    """Return the choice probabilities [L, C] of a trained supernet."""
    state = load_checkpoint(args.out / title / "supernet.pt")
    return state["sampler"]["probabilities"].double().numpy()


def best_architecture(title: str, args: Namespace) -> np.ndarray:
    """Return the answer of a search as probabilities [L, C] of 0 and 1."""
    space, answer = load_architecture(args.out / title / "best_architecture.yaml")
    return np.eye(space.num_choices.max())[answer]


def digits(args: Namespace) -> None:
    """Searches with the defaults, seed by seed."""
    table, references = Table(args.out / "digits.csv"), {}
    agreement = Table(args.out / "references.csv")
    for seed, (space, sampler) in itertools.product(range(args.seeds), DIGITS):
        key = {"space": space, "sampler": sampler, "seed": seed}
        left_out = args.spaces and space not in args.spaces
        if left_out or not wanted(sampler, args) or table.has(**key):
            continue
        if space not in references:
            references[space] = Reference(space, args)
            if not agreement.has(space=space):
                agreement.add({"space": space, **references[space].agreement})
        strategy = "evolution" if sampler == "evolution" else "differentiable"
        flags = ["--search-strategy", strategy, "--search-space", space]
        flags += [*SAMPLERS.get(sampler, []), "--random-seed", seed, "--no-random-control"]
        title = f"{space}_{sampler}_{seed}"
        spent = command("search.py", title, args, *flags)
        read = best_architecture if strategy == "evolution" else probabilities
        row = references[space].row(read(title, args))
        table.add({**key, **row, "seconds": round(spent)})


def wanted(sampler: str, args: Namespace) -> bool:
    return not args.samplers or sampler in args.samplers


def cost_table(space: SearchSpace, out: Path) -> tuple[LookupTable, Path]:
    """Return MACs at COST_SIZE, as a table and as a file for --lookup-table."""
    large = load_space(space.name, COST_SIZE, space.num_classes)
    macs = load_table(large)
    table = load_table(space).with_metric(
        "macs32", macs.costs["flops"], macs.fixed["flops"], "M MACs", {"counted_at": COST_SIZE}
    )
    text = user_table_text(space, table, "macs32")
    path = out / "macs32.yaml"
    lines = [x for x in text.splitlines() if not x.startswith("input_size")]
    write_text(path, "\n".join(lines) + "\n")
    return table, path


class Known:
    """Networks whose true accuracy is known, by any of their codes."""

    def __init__(self, path: Path, space: SearchSpace, costs: LookupTable) -> None:
        self.costs = costs
        codes = Budget(BudgetCounts(costs, "macs32"), None, None).enumerate()  # [N, L]
        found = Benchmark.read(path, space)
        known = dict(zip(architecture_keys(found.architectures), found.accuracy, strict=True))
        canonical = Equivalence(space).canonical(codes)
        accuracy = np.array([known.get(key, np.nan) for key in architecture_keys(canonical)])
        has = accuracy > 0
        self.codes, self.accuracy = codes[has], accuracy[has]
        self.first = (codes == canonical).all(1)[has]  # one code of each network

    def row(self, p: np.ndarray, mflops: float) -> dict:
        """Return regrets in points of true accuracy: of the most probable network, and others."""
        cost = self.costs.cost(self.codes, "macs32")
        inside = cost <= round(mflops * MILLION)
        codes, accuracy = self.codes[inside], self.accuracy[inside]
        chosen = np.log(np.maximum(p, 1e-300))[np.arange(len(p)), codes].sum(1)
        answer, best = int(chosen.argmax()), accuracy.max()
        expected = expected_cost(p, self.costs, "macs32") / MILLION
        return {
            "entropy_share": round(entropy_share(p, self.costs.num_choices), 3),
            "expected_over_target": round(expected / mflops, 3),
            "regret": round(best - accuracy[answer], 2),
            "regret_random_median": round(best - np.median(accuracy[self.first[inside]]), 2),
            "regret_largest": round(best - accuracy[cost[inside].argmax()], 2),
            "answer": "".join(map(str, codes[answer])),
        }


def macro(args: Namespace) -> None:
    """A warm-up per seed, then an architecture phase per sampler and budget."""
    space = load_space("nas_bench_macro", 16, 10)
    costs, costs_file = cost_table(space, args.out)
    known, table = Known(args.benchmark, space, costs), Table(args.out / "macro.csv")
    shared = ["--config", ROOT / "config_file" / "search" / MACRO, "--data-path", args.data_path]
    for seed, sampler, mflops in itertools.product(range(args.seeds), ORDER, args.budgets):
        key = {"seed": seed, "sampler": sampler, "budget": mflops}
        if table.has(**key) or not wanted(sampler, args):
            continue
        fair = ["--sample-strategy", "fair", "--epochs", args.warm_epochs, "--lr", 0.01]
        start = trained(f"warm_{seed}", args, *shared, *fair, "--random-seed", seed)
        flags = [*SAMPLERS[sampler], "--random-seed", seed, "--init-from", start]
        flags += ["--lookup-table", costs_file, "--info-metric", "macs32", "--target-hc", mflops]
        title = f"{sampler}_{mflops:g}_{seed}"
        spent = command("train_supernet.py", title, args, *shared, *flags)
        table.add({**key, **known.row(probabilities(title, args), mflops), "seconds": round(spent)})


@user_errors
def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("part", choices=("digits", "macro"))
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and tables")
    parser.add_argument("--seeds", type=int, default=3)
    spaces, samplers = (sorted(set(names)) for names in zip(*DIGITS, strict=True))
    parser.add_argument("--samplers", nargs="+", choices=samplers, help="only these (default: all)")
    parser.add_argument("--spaces", nargs="+", choices=spaces, help="digits: likewise")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--benchmark", type=Path, help="macro: JSON of true accuracies")
    parser.add_argument("--data-path", type=Path, help="macro: folder of CIFAR-10's images")
    parser.add_argument("--budgets", type=numbers, default=[48.0, 55.0, 63.0, 86.0])
    parser.add_argument("--warm-epochs", type=int, default=1, help="macro: of fair paths")
    args = parser.parse_args()
    if args.part == "macro" and None in (args.benchmark, args.data_path):
        raise ValueError("macro needs --benchmark FILE.json and --data-path of CIFAR-10's images")
    args.out.mkdir(parents=True, exist_ok=True)
    seed_everything(0)
    if torch.get_num_threads() > 1 and args.device == "cpu":
        print("note: OMP_NUM_THREADS=1 is as fast for these sizes")
    {"digits": digits, "macro": macro}[args.part](args)


if __name__ == "__main__":
    main()
