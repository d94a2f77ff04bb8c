"""Seconds until a command answers: --help, and the first training step on digits.

python -m benchmarks.startup
python -m benchmarks.startup --rounds 9

Medians over fresh processes. Goals: --help within 0.7 s, the first step within 5 s of start.
"""

from __future__ import annotations

from statistics import median

from benchmarks._common import ROOT, run_python
from config_file.arg_config.fields import Parser

FIRST_STEP = """
import sys, runpy, torch
step = torch.optim.AdamW.step
torch.optim.AdamW.step = lambda *a, **k: (step(*a, **k), sys.exit(0))
sys.argv = [{script!r}]
runpy.run_path({script!r}, run_name="__main__")
"""


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    scripts = ("search.py", "train_supernet.py", "train_subnet.py", "evaluate_ranking.py")
    commands = {f"{s} --help": [str(ROOT / s), "--help"] for s in scripts}
    code = FIRST_STEP.format(script=str(ROOT / "search.py"))
    commands["search.py to its first training step"] = ["-c", code]
    commands["import torch"] = ["-c", "import torch"]
    for name, words in commands.items():
        runs = [run_python(*words) for _ in range(args.rounds)]
        wall, cpu = (median(run[i] for run in runs) for i in (0, 1))
        print(f"  {name:<40}{wall:6.2f} s wall {cpu:6.2f} s of processor", flush=True)


if __name__ == "__main__":
    main()
