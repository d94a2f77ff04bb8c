"""Does a long search stay small? An evolution search of 10,000 candidates on a small space.

python -m benchmarks.soak                      # some minutes on one core
python -m benchmarks.soak --candidates 2000

Linux only. Prints the resident memory over the search, and the sizes of what it writes. It fails
(exit code 1) where memory grows by more than 50 MB between the first tenth of the candidates and
the last, or where a file is larger than its number of rows explains.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from benchmarks._common import resident
from config_file.arg_config.fields import Parser
from config_file.arg_config.search_config import SearchConfig
from lookup_table import Budget, BudgetCounts
from lookup_table.builder import load_table
from model import build_supernet, load_space
from search_strategy.evaluator import Evaluator
from search_strategy.evolution import EvolutionConfig, EvolutionSearch
from search_strategy.scores import OnProgress, ScoreLog, no_progress
from search_strategy.searches import Searches
from utils.device import tune_malloc

LIMIT_MB = 50
BYTES_PER_ROW = 120  # of history.csv: eight names and four numbers
BYTES_PER_ROUND = 2000  # of TensorBoard: six scalars

SPACE = """
name: soak  # 4^3 * 5^5 networks and more: enough for 10,000 that differ
supernet: multipath
stem: {width: 4, stride: 1}
first: null
stages: [{width: 4, layers: 4, stride: 1}, {width: 8, layers: 4, stride: 2}]
choices: [k3_e1, k3_e2, k5_e1, k5_e2, skip]
last: 16
classifier: {bias: true, dropout: 0.0}
activation: relu
bn: {eps: 0.001, affine_in_supernet: true}
expand_e1: false
small_images: as_is
"""


class Watching(Evaluator):
    """Evaluator that notes the memory after every group of candidates."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.scored = 0
        self.memory: list[tuple[int, float]] = []  # candidates, MB

    def score(self, architectures: np.ndarray, on_progress: OnProgress = no_progress) -> np.ndarray:
        scores = super().score(architectures, on_progress)
        self.scored += len(scores)
        self.memory.append((self.scored, resident("VmRSS") / 1e3))
        return scores


def run(folder: Path, candidates: int, population: int) -> Watching:
    """Search as search.py does, with its files in `folder`."""
    (folder / "soak.yaml").write_text(SPACE)
    space = load_space(folder / "soak.yaml", 8, 10)
    table = load_table(space)
    torch.manual_seed(0)
    images = torch.randn(40, 3, 8, 8)
    batches = [(images, torch.randint(0, 10, (40,)))]
    evaluator = Watching(build_supernet(space), [images], batches)
    budget = Budget(BudgetCounts(table, "flops"), None, None)
    generations = -(-candidates // population)
    config = EvolutionConfig(generation_num=generations, population=population)
    strategy = EvolutionSearch(config, budget, np.random.default_rng(0))
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        scores = ScoreLog(evaluator, folder / "candidates.log", space)
        searches = Searches(SearchConfig(), space, budget, None, scores, folder, writer)
        searches.run(strategy, "history.csv", "evolution")
    return evaluator


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--population", type=int, default=50)
    args = parser.parse_args()
    torch.set_num_threads(1)
    tune_malloc()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        evaluator = run(folder, args.candidates, args.population)
        rows = len((folder / "history.csv").read_text().splitlines()) - 1
        csv_bytes = (folder / "history.csv").stat().st_size
        board_bytes = sum(p.stat().st_size for p in (folder / "tensorboard").iterdir())
    memory = evaluator.memory
    for done, megabytes in memory[:: max(1, len(memory) // 10)]:
        print(f"{done:>7} candidates  {megabytes:8.1f} MB")
    tenth = len(memory) // 10
    growth = memory[-1][1] - memory[tenth][1]
    print(f"{rows} rows, history.csv {csv_bytes / rows:.0f} bytes a row, ", end="")
    print(f"TensorBoard {board_bytes / len(memory):.0f} bytes a round")
    print(f"growth of resident memory after the first tenth: {growth:.1f} MB (limit {LIMIT_MB})")
    in_proportion = csv_bytes < BYTES_PER_ROW * rows and board_bytes < BYTES_PER_ROUND * len(memory)
    if growth > LIMIT_MB or not in_proportion:
        sys.exit(1)


if __name__ == "__main__":
    main()
