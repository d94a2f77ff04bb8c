"""SIGKILL at random moments, then --resume: the result is that of one piece, bit for bit."""

from __future__ import annotations

from pathlib import Path

import kills
import pytest

KILLS = {"train_supernet": 4, "evolution": 4}  # of each job; the others three


@pytest.mark.parametrize("name", kills.JOBS)
def test_a_killed_job_goes_on_to_the_same_result(name: str, tmp_path: Path) -> None:
    """20 kills over all jobs; `python tests/kills.py --kills 24 --seed 1` does others."""
    kills.run_job(name, KILLS.get(name, 3), 0, tmp_path)
