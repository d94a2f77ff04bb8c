"""Detection of losses that become NaN or infinite, before they reach a checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from utils.distributed import AnyPath

CHECK_EVERY = 50  # steps between two looks on a GPU: each makes the host wait for it
MAX_SKIPS_IN_A_ROW = 10


class LossGuard:
    """Check losses and gradient norms, step by step.

    With `stop` a value that is not finite ends the training (on a GPU up to CHECK_EVERY steps
    later, but before `flush` returns, so before any checkpoint). With `skip` its step is left out.
    """

    def __init__(self, on_nan: str, device: torch.device) -> None:
        self.skips = on_nan == "skip"
        self.every = CHECK_EVERY if device.type == "cuda" and not self.skips else 1
        self.pending: list[tuple[Tensor, str, str]] = []  # value, its name, when it came up
        self.steps = self.skipped = self.skipped_in_a_row = 0

    def watch(
        self,
        value: Tensor,
        step: int,
        lr: float,
        path: AnyPath | None = None,
        what: str = "loss",
    ) -> None:
        """Remember a scalar of this step, to be checked in `keep_step`.

        An error names the path if it is one of choices, int [L], and not weights, float [L, C].
        """
        when = f"step {step} (lr {lr:.4g}"
        if path is not None and not (isinstance(path, Tensor) and path.is_floating_point()):
            when += f", path {' '.join(str(int(choice)) for choice in path)}"
        self.pending.append((value.detach(), what, when + ")"))

    def keep_step(self) -> bool:
        """Return True if the optimiser may use this step's gradients; call it once, before.

        Raises:
            ValueError: something was not finite; it names step, path and learning rate.
        """
        self.steps += 1
        if self.steps % self.every:
            return True
        bad = self._take_bad()
        if bad is None:
            self.skipped_in_a_row = 0
            return True
        self.skipped += 1
        self.skipped_in_a_row += 1
        if not self.skips or self.skipped_in_a_row == MAX_SKIPS_IN_A_ROW:
            raise ValueError(self._message(bad))
        return False

    def flush(self) -> None:
        """Check all that is pending; call it before a checkpoint. Raises as `keep_step`."""
        if (bad := self._take_bad()) is not None:
            raise ValueError(self._message(bad))

    def _take_bad(self) -> str | None:
        """Name the first pending value that is not finite; nothing is pending afterwards."""
        if not self.pending:
            return None
        finite = torch.stack([value.float() for value, _, _ in self.pending]).isfinite().tolist()
        pending, self.pending = self.pending, []  # `tolist` was the one wait for a GPU
        for ok, (value, what, when) in zip(finite, pending, strict=True):
            if not ok:
                return f"the {what} became {value.item()} at {when}"
        return None

    def _message(self, bad: str) -> str:
        again = f", the {MAX_SKIPS_IN_A_ROW}th step in a row" if self.skips else ""
        skip = "" if self.skips else "; --on-nan skip leaves single such steps out"
        return (
            f"{bad}{again}; the checkpoint before it is kept. Lower --lr, set --grad-clip or "
            f"lengthen --warmup-epochs, and start under another --title{skip}"
        )


@torch.no_grad()
def reset_nonfinite_bn(module: nn.Module) -> int:
    """Reset BN statistics that a skipped step has made NaN or infinite; return in how many BNs."""
    number = 0
    for m in module.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            statistics = [x for x in (m.running_mean, m.running_var) if x is not None]
            if not all(x.isfinite().all() for x in statistics):
                m.reset_running_stats()
                number += 1
    return number
