"""Another run of one of our scripts, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from utils import ranks
from utils.interruption import deferred

ROOT = Path(__file__).resolve().parent.parent
TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_", "GROUP_", "ROLE_", "LOCAL_", "TORCHELASTIC_")


def run_script(script: str, words: Sequence[object], name: str) -> None:
    """Run `python SCRIPT words`, quietly and alone: under torchrun it is no rank.

    A signal to this process is passed on, so that the run leaves its checkpoint.

    Args:
        name: of the run, for the message of a failure.

    Raises:
        ValueError: the run failed; the message is its own.
        Interrupted: a signal came, and the run has ended.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(TORCHRUN)}
    if ranks.launched() and "CUDA_VISIBLE_DEVICES" not in kept:
        kept["CUDA_VISIBLE_DEVICES"] = os.environ.get("LOCAL_RANK", "0")
    command = [sys.executable, str(ROOT / script), "--quiet", *map(str, words)]
    with deferred() as signals:
        child = subprocess.Popen(
            command, env=kept, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        while child.poll() is None:
            time.sleep(0.2)
            if signals.asked:
                child.terminate()  # it writes its checkpoint
                child.wait()
        assert child.stderr is not None
        error = child.stderr.read()
    if child.returncode:
        reason = error.strip().splitlines() or [f"exit code {child.returncode}"]
        raise ValueError(f"the run of {name} failed: {reason[-1].removeprefix('error: ')}")
