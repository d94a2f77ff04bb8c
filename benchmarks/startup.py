"""Seconds until a command answers: --help, and the first training step on digits.

python -m benchmarks.startup
python -m benchmarks.startup --rounds 9

Medians over fresh processes. Goals: --help within 0.7 s, the first step within 5 s of start.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from config_file.arg_config.fields import Parser

ROOT = Path(__file__).resolve().parent.parent
FIRST_STEP = """
import sys, runpy, torch
step = torch.optim.AdamW.step
torch.optim.AdamW.step = lambda *a, **k: (step(*a, **k), sys.exit(0))
sys.path.insert(0, {root!r})
sys.argv = [{script!r}]
runpy.run_path({script!r}, run_name="__main__")
"""


def seconds(words: list[str], folder: str) -> tuple[float, float]:
    """Wall and processor seconds of a process that must succeed."""
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    wall, after = time.perf_counter() - start, os.times()
    assert done.returncode == 0, done.stderr[-2000:]
    cpu = after.children_user + after.children_system
    return wall, cpu - before.children_user - before.children_system


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    scripts = ("search.py", "train_supernet.py", "train_subnet.py", "evaluate_ranking.py")
    commands = {f"{s} --help": [sys.executable, str(ROOT / s), "--help"] for s in scripts}
    code = FIRST_STEP.format(script=str(ROOT / "search.py"), root=str(ROOT))
    commands["search.py to its first training step"] = [sys.executable, "-c", code]
    commands["import torch"] = [sys.executable, "-c", "import torch"]
    with tempfile.TemporaryDirectory() as folder:
        for name, words in commands.items():
            times = [seconds(words, folder) for _ in range(args.rounds)]
            wall, cpu = (median(column) for column in zip(*times, strict=True))
            print(f"  {name:<40}{wall:6.2f} s wall {cpu:6.2f} s of processor", flush=True)


if __name__ == "__main__":
    main()
