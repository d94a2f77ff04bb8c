"""The default search, start to end, against an earlier commit's: what everyone runs first.

python -m benchmarks.first_run                        # seed 0 on both sides, one after the other
python -m benchmarks.first_run --seeds 0 1 2

Each run is a process with the environment of this one; those of a seed follow each other. The
table has the seconds of each phase, the winner's validation top-1 and the random control's mean,
and the ratio of the wall times. Nothing else should run meanwhile.
"""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import torch

from benchmarks._common import BASE, ROOT, checkout, hardware, run_python
from config_file.arg_config.fields import Parser

PHASES = ("supernet training", "search", "random control")
COLUMNS = ("seconds", *PHASES, "winner", "control mean")


def run_search(root: Path, seed: int) -> dict[str, float]:
    """Return seconds, winner and control of one search in a checkout."""
    seconds, _, out = run_python(str(root / "search.py"), "--random-seed", str(seed))
    text = " ".join(out.split())
    row = {"seconds": seconds}
    for phase in PHASES:
        minutes, rest = re.findall(rf"{phase} (?:(\d+) min )?([\d.]+) s", text)[-1]
        row[phase] = 60 * float(minutes or 0) + float(rest)
    row["winner"] = float(re.findall(r"validation top-1 ([\d.]+) %", text)[0])
    row["control mean"] = float(re.findall(r"mean ([\d.]+) %", text)[0])
    return row


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--against", default=BASE, metavar="COMMIT")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    print(f"{hardware()}, {torch.backends.cpu.get_cpu_capability()}")
    print("| side | seed | " + " | ".join(COLUMNS) + " |\n" + "|---" * (2 + len(COLUMNS)) + "|")
    ratios = []
    with checkout(args.against) as before:
        for seed in args.seeds:
            rows = {"before": run_search(before, seed), "now": run_search(ROOT, seed)}
            for side, row in rows.items():
                cells = " | ".join(f"{row[name]:.1f}" for name in COLUMNS)
                print(f"| {side} | {seed} | {cells} |", flush=True)
            ratios.append(rows["now"]["seconds"] / rows["before"]["seconds"])
    print(f"\nnow / before, median of {len(ratios)} seeds: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
