"""TensorBoard's writer with a hook for other trackers; docs/runs.md shows wandb and mlflow."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from torch.utils.tensorboard import SummaryWriter

from utils.ranks import is_main

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Callback(Protocol):
    """Receives what TensorBoard gets."""

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Take numbers by name; `step` counts epochs, or rounds of a search."""

    def figure(self, name: str, figure: Figure, step: int) -> None:
        """Take a matplotlib figure."""


class _Functions(NamedTuple):
    """The functions of a Python file as a callback."""

    scalars: Callable[[dict[str, float], int], None]
    figure: Callable[[str, Figure, int], None]


def load_callback(path: Path | None) -> Callback | None:
    """Run a Python file (--tracker) that defines `scalars` and, if it wants them, `figure`.

    Raises:
        ValueError: the file cannot be run, or has no function `scalars`.
    """
    if path is None:
        return None
    try:
        names = runpy.run_path(str(path))
    except Exception as error:  # a user's file can raise anything
        raise ValueError(f"--tracker {path}: {type(error).__name__}: {error}") from error
    if not callable(names.get("scalars")):
        raise ValueError(f"--tracker {path}: define scalars(values, step) in it")
    return _Functions(names["scalars"], names.get("figure", lambda *figure: None))


class Tracker(SummaryWriter):
    """TensorBoard's writer that passes scalars and figures on to a callback, on rank 0.

    Args:
        folder: of TensorBoard's files.
        callback: None is none.
    """

    def __init__(self, folder: Path, callback: Callback | None = None) -> None:
        super().__init__(str(folder))
        self.callback = callback if is_main() else None

    def add_scalar(self, tag: str, scalar_value: Any, global_step: Any = None, *more: Any) -> None:
        super().add_scalar(tag, scalar_value, global_step, *more)
        if self.callback:
            self.callback.scalars({tag: float(scalar_value)}, int(global_step or 0))

    def add_figure(self, tag: str, figure: Any, global_step: Any = None, *more: Any) -> None:
        if self.callback:  # first: TensorBoard closes the figure
            self.callback.figure(tag, figure, int(global_step or 0))
        super().add_figure(tag, figure, global_step, *more)
