"""Which of several processes this is, as torchrun says in the environment; no torch needed.

Rank 0 alone writes to the run folder and speaks.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def launched() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def rank() -> int:
    return int(os.environ.get("RANK", "0")) if launched() else 0


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process writes files and speaks."""
    return rank() == 0


def scratch_folder() -> Path:
    """Where a rank other than 0 leaves what only rank 0 may write; removed at the end."""
    folder = tempfile.mkdtemp(prefix=f"oneshot_nas_rank{rank()}_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
