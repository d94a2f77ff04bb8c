"""SIGKILL at random moments, then --resume: the result is that of one piece, bit for bit."""

from __future__ import annotations

from pathlib import Path

import kills
import pytest


@pytest.mark.parametrize("name", ["train_supernet", "evolution", "differentiable", "train_subnet"])
def test_a_killed_job_goes_on_to_the_same_result(name: str, tmp_path: Path) -> None:
    """One kill each; `python tests/kills.py --kills 24` does more, and all jobs."""
    kills.run_job(name, 1, 0, tmp_path)
