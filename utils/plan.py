"""The plan that --dry-run prints in place of a run: steps, sizes, candidates, files."""

from __future__ import annotations

from utils.report import summary_table

TRAINING_FILES = "config.yaml, environment.yaml, log.txt, splits.npz, supernet.pt, tensorboard/"


def training_rows(
    epochs: int, steps: int, batch_size: int, images: int, params: int, copies: int
) -> dict[str, str]:
    """Rows about the training of a supernet of `params` parameters; `steps` are of one epoch.

    Args:
        copies: tensors of a checkpoint for each parameter, the optimiser's among them.
    """
    return {
        "training": f"{epochs * steps:,} steps of {batch_size} images ({epochs} epochs of "
        f"{images:,} images)",
        "supernet": f"{params:,} parameters, {4 * params / 1e6:,.1f} MB of weights; supernet.pt "
        f"takes {4 * copies * params / 1e6:,.1f} MB with the optimiser's state",
    }


def plan_text(title: str, rows: dict[str, str]) -> str:
    """The plan as a table."""
    return summary_table(f"\nplan: {title}", rows) + "\nnothing was trained and no run was written"
