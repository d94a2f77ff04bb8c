"""Estimates of --dry-run: what is timed, and how it is said."""

from __future__ import annotations

import time

import pytest
import torch

from utils.plan import FirstBatches, about, in_bytes, now, peak_memory, seconds

CPU = torch.device("cpu")


class SlowLoader:
    device = CPU
    batch_size = 7

    def __len__(self) -> int:
        return 100

    def __iter__(self):
        yield from range(100)


def test_first_batches_time_the_work_between_them() -> None:
    batches = FirstBatches(SlowLoader(), 4)
    assert len(batches) == 4 and batches.batch_size == 7
    assert list(batches) == [0, 1, 2, 3]
    assert len(batches.times) == 5 and batches.times == sorted(batches.times)
    batches.times = [0.0, 9.0, 10.0, 12.0, 13.0]  # the first step, of 9 s, is not counted
    assert batches.seconds_per_step == 1.0
    batches.times = [0.0, 9.0]
    assert batches.seconds_per_step == 9.0
    assert len(FirstBatches(SlowLoader(), 1000)) == 100


def test_seconds_and_memory_are_those_of_this_process() -> None:
    assert seconds(lambda: time.sleep(0.05), CPU) >= 0.05
    assert now(CPU) <= now(CPU)
    before = peak_memory(CPU)
    torch.ones(300_000_000, dtype=torch.uint8)
    assert before > 50e6 and peak_memory(CPU) >= before


@pytest.mark.parametrize(
    ("spent", "text"),
    [
        (0.4, "about 0.4 s"),
        (42.4, "about 42.0 s"),
        (200, "about 3 min"),
        (7200, "about 2.0 h"),
        (5 * 86400, "about 5.0 days"),
    ],
)
def test_durations_have_no_false_precision(spent: float, text: str) -> None:
    assert about(spent) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(999, "999 bytes"), (1234, "1.2 KB"), (2.5e9, "2.5 GB"), (9e12, "9,000.0 GB")],
)
def test_sizes(size: float, text: str) -> None:
    assert in_bytes(size) == text
