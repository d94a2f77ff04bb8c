"""A loss that becomes NaN or infinite: noticed at its step, before it reaches a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

CHECK_EVERY = 50  # steps between two looks on a GPU: each makes the host wait for it
MAX_SKIPS_IN_A_ROW = 10


@dataclass(frozen=True)
class Watched:
    value: Tensor  # a scalar on the device
    what: str
    step: int
    lr: float
    path: Sequence[int] | None

    def __str__(self) -> str:
        path = "" if self.path is None else f", path {' '.join(map(str, self.path))}"
        where = f"step {self.step} (lr {self.lr:.4g}{path})"
        return f"the {self.what} became {self.value.item()} at {where}"


class LossGuard:
    """Watches losses and gradient norms, step by step.

    With `stop` one that is not finite ends the training (on a GPU up to CHECK_EVERY steps later,
    but before `flush` returns, so before any checkpoint). With `skip` its step is left out.

    Args:
        on_nan: "stop" or "skip".
        device: where the losses are.
    """

    def __init__(self, on_nan: str, device: torch.device) -> None:
        self.skips = on_nan == "skip"
        self.every = CHECK_EVERY if device.type == "cuda" and not self.skips else 1
        self.pending: list[Watched] = []
        self.steps = self.skipped = self.skipped_in_a_row = 0

    def watch(
        self,
        value: Tensor,
        step: int,
        lr: float,
        path: Sequence[int] | Tensor | None = None,
        what: str = "loss",
    ) -> None:
        """Remember a scalar of this step, to be looked at in `keep_step`.

        `path` is what the supernet ran: of choices, int [L], it is named in the message; weights
        of choices are not.
        """
        weighted = path is None or (isinstance(path, Tensor) and path.is_floating_point())
        named = None if weighted else [int(c) for c in path]
        self.pending.append(Watched(value.detach(), what, step, lr, named))

    def keep_step(self) -> bool:
        """Whether the optimiser may use this step's gradients; call it once a step, before.

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
        """Look at all that is pending; call it before a checkpoint. Raises as `keep_step`."""
        if (bad := self._take_bad()) is not None:
            raise ValueError(self._message(bad))

    def _take_bad(self) -> Watched | None:
        """The first pending value that is not finite; nothing is pending afterwards."""
        if not self.pending:
            return None
        values = torch.stack([w.value.float() for w in self.pending])
        finite = values.isfinite().tolist()  # the one wait for a GPU
        bad = next((w for w, ok in zip(self.pending, finite, strict=True) if not ok), None)
        self.pending = []
        return bad

    def _message(self, bad: Watched) -> str:
        again = f", the {MAX_SKIPS_IN_A_ROW}th step in a row" if self.skips else ""
        advice = "" if self.skips else "; --on-nan skip leaves single such steps out"
        return (
            f"{bad}{again}; the checkpoint before it is kept. Lower --lr, set --grad-clip or "
            f"lengthen --warmup-epochs, and start under another --title{advice}"
        )


@torch.no_grad()
def reset_nonfinite_bn(module: nn.Module) -> int:
    """Reset running statistics that a skipped step has made NaN or infinite; how many it were."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    broken = [
        m
        for m in norms
        if m.running_mean is not None
        and not (m.running_mean.isfinite().all() and m.running_var.isfinite().all())
    ]
    for m in broken:
        m.reset_running_stats()
    return len(broken)
