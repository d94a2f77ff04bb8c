"""The default search, start to end, against an earlier commit's: what everyone runs first.

python -m benchmarks.first_run                        # seed 0 on both sides, one after the other
python -m benchmarks.first_run --seeds 0 1 2 --save first_run.jsonl   # resumable, run by run
python -m benchmarks.first_run --busy                 # beside a process that keeps one core busy

Each run is a process with the environment of this one; those of a seed follow each other. The
table has the seconds of each phase, the winner's validation top-1 and the random control's mean,
and the ratio of the wall times. Nothing else should run meanwhile.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks._common import checkout, competitor, hardware
from config_file.arg_config.fields import Parser
from utils.files import write_text

ROOT = Path(__file__).resolve().parent.parent
BASE = "68b736b"
PHASES = ("supernet training", "search", "random control")


def run_search(root: Path, seed: int, flags: list[str]) -> dict[str, float]:
    """Seconds, winner and control of one search in a checkout.

    Raises:
        SystemExit: it failed.
    """
    words = [sys.executable, str(root / "search.py"), "--random-seed", str(seed), *flags]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"error: {' '.join(words)} failed: {done.stderr.strip()[-500:]}")
    text = " ".join(done.stdout.split())
    row = {"seconds": seconds}
    for name, pattern in (
        ("winner", r"validation top-1 ([\d.]+) %"),
        ("control mean", r"mean ([\d.]+) %"),
    ):
        row[name] = float(re.findall(pattern, text)[0])
    for phase in PHASES:
        clock = re.findall(rf"{phase} (?:(\d+) min )?([\d.]+) s", text)
        minutes, rest = clock[-1]
        row[phase] = 60 * float(minutes or 0) + float(rest)
    return row


def table(rows: list[dict]) -> str:
    """Every run, and the median ratio of the two sides over seeds."""
    columns = ("seconds", *PHASES, "winner", "control mean")
    lines = ["| side | seed | " + " | ".join(columns) + " |", "|---" * (2 + len(columns)) + "|"]
    for row in rows:
        cells = " | ".join(f"{row[name]:.1f}" for name in columns)
        lines.append(f"| {row['side']} | {row['seed']} | {cells} |")
    by = {(row["side"], row["seed"]): row["seconds"] for row in rows}
    pairs = [
        by["now", s] / t for (side, s), t in by.items() if side == "before" and ("now", s) in by
    ]
    if pairs:
        lines.append(
            f"\nnow / before, median of {len(pairs)} seeds: {statistics.median(pairs):.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--against", default=BASE, metavar="COMMIT")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--save", type=Path, metavar="FILE", help="rows, one JSON object per line")
    parser.add_argument(
        "--busy", action="store_true", help="beside a process that keeps a core busy"
    )
    parser.add_argument("--sides", nargs="+", choices=("before", "now"), default=("before", "now"))
    parser.add_argument("--flags", default="", help="more flags of search.py, in one string")
    args = parser.parse_args()
    rows: list[dict] = []
    if args.save and args.save.exists():
        rows = [json.loads(line) for line in args.save.read_text().splitlines()]
    print(f"{hardware()}, {torch.backends.cpu.get_cpu_capability()}", flush=True)
    with checkout(args.against) as before, competitor(args.busy):
        for seed in args.seeds:
            for side, root in (("before", before), ("now", ROOT)):
                known = any((row["side"], row["seed"]) == (side, seed) for row in rows)
                if side not in args.sides or known:
                    continue
                row = run_search(root, seed, args.flags.split())
                rows.append({"side": side, "seed": seed, **row})
                if args.save:
                    write_text(args.save, "".join(json.dumps(r) + "\n" for r in rows))
    print(table(rows))


if __name__ == "__main__":
    main()
