"""Rank and number of processes, as torchrun puts them in the environment; torch is not loaded.

Only rank 0 writes to the run folder and prints.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched() -> bool:
    """True if torchrun started this process as one of several."""
    return world_size() > 1


def rank() -> int:
    return int(os.environ.get("RANK", "0")) if launched() else 0


def is_main() -> bool:
    """True if this process writes files and prints."""
    return rank() == 0


def scratch_folder() -> Path:
    """Make a temporary folder that stands in for the run folder on ranks other than 0."""
    folder = tempfile.mkdtemp(prefix=f"oneshot_nas_rank{rank()}_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
