"""Out of memory, on a GPU or not, as one line that says what to lower."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator


def out_of_memory(error: BaseException) -> str | None:
    """Return a line that memory ran out and how much was asked for; None for other errors.

    PyTorch's message names the amount ("Tried to allocate 2.00 GiB", "tried to allocate 8 bytes").
    """
    if type(error).__name__ == "OutOfMemoryError":  # torch's, known without importing torch
        place = "the device"
    elif isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        place = "the machine"
    else:
        return None
    amount = re.search(r"to allocate ([\d.]+ \w+)", str(error))
    return f"{place} is out of memory" + (f" ({amount[1]} were asked for)" if amount else "")


@contextlib.contextmanager
def memory_hint(hint: str) -> Iterator[None]:
    """Raise ValueError with the hint where memory runs out inside.

    Args:
        hint: what was being done, and what to lower: "--batch-size 256: lower it".
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if (line := out_of_memory(error)) is None:
            raise
        raise ValueError(f"{line}; {hint}") from error
