"""`search.py` in a process of its own, with the seconds of its phases and its peak memory."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CHILD = "from benchmarks._search import child; child()"


def run_search(flags: list[str]) -> dict[str, Any]:
    """Run a search with these flags in a temporary folder; return what `child` prints.

    Raises:
        RuntimeError: the search fails; with the last line that it said.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    words = [sys.executable, "-c", CHILD, *flags]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise RuntimeError(f"search.py failed: {last[0]}")
    return json.loads(done.stdout.splitlines()[-1])


def child() -> None:
    """Run `search.py` with this process's flags; then print its phases and memory as JSON."""
    import torch

    from benchmarks._common import peak_mib
    from utils import timing

    made: list[timing.Phases] = []

    class Kept(timing.Phases):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    timing.Phases = Kept  # type: ignore[misc]
    runpy.run_path(str(ROOT / "search.py"), run_name="__main__")
    device = torch.device("cuda" if torch.cuda.is_initialized() else "cpu")
    print(json.dumps({"phases": made[0].seconds, "peak_mib": peak_mib(device)}))
