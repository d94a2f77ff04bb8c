"""Time the ONNX files of this folder on this device; writes times.csv.

python measure.py [THREADS]     # needs numpy and onnxruntime, nothing else
"""

from __future__ import annotations

import csv
import json
import sys
import time
from pathlib import Path

TURNS = 5  # of all blocks one after another: a spell in which the device is slow falls on all
SECONDS = 0.05  # of each block in each turn


def main() -> None:
    import numpy as np
    import onnxruntime

    folder = Path(__file__).resolve().parent
    blocks = json.loads((folder / "index.json").read_text(encoding="utf-8"))["blocks"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    runs = []
    for block in blocks:
        session = onnxruntime.InferenceSession(
            str(folder / block["file"]), options, providers=["CPUExecutionProvider"]
        )
        runs.append((session, {"x": np.zeros(block["input"], dtype=np.float32)}))
    medians = np.empty((TURNS, len(runs)))
    for turn in medians:
        for i, (session, inputs) in enumerate(runs):
            session.run(None, inputs)  # warm up
            spent: list[float] = []
            while sum(spent) < SECONDS:
                start = time.perf_counter()
                session.run(None, inputs)
                spent.append(time.perf_counter() - start)
            turn[i] = 1000 * np.median(spent)  # ms
    with open(folder / "times.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "ms"])
        for block, ms in zip(blocks, np.median(medians, axis=0), strict=True):
            writer.writerow([block["file"], f"{ms:.6f}"])


if __name__ == "__main__":
    main()
