"""SIGKILL at random moments, then --resume: the result is that of one piece, bit for bit."""

from __future__ import annotations

from pathlib import Path

import kills
import pytest


@pytest.mark.parametrize("name", kills.JOBS)
def test_a_killed_job_goes_on_to_the_same_result(name: str, tmp_path: Path) -> None:
    """Two kills each; `python tests/kills.py --kills 20` does more."""
    kills.run_job(name, 2, 0, tmp_path)
