"""Validation accuracy of architectures on a supernet's weights, with BN calibrated per path.

A path's BN statistics in the supernet are a mixture over all paths, so they are estimated again
for each candidate (SPOS, https://arxiv.org/abs/1904.00420, section 3.3): reset, then the cumulative
mean (momentum None) over batches of training images as they are, without augmentation.

Candidates that begin with the same choices share that work. In lexicographic order they are the
leaves of a trie, and a walk through it computes each node's statistics and activations once: the
stack holds the activations of the current prefix only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from model.supernet import Supernet

Key = tuple[int, ...]  # an architecture, or the prefix of one
Batches = Iterable[tuple[Tensor, Tensor]]  # images [B, 3, H, W], labels [B]
CHUNK = 512  # architectures whose BN statistics (some 0.3 MB each) are held at a time


@contextlib.contextmanager
def borrowed_batch_norms(supernet: Supernet) -> Iterator[None]:
    """Eval mode with cumulative BN; afterwards modes, momenta and statistics are as before."""
    modes = {m: m.training for m in supernet.modules()}
    norms = [m for m in supernet.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [(m, m.momentum, dict(m._buffers)) for m in norms]
    supernet.eval()  # calibration too runs without dropout
    for m in norms:
        m.momentum = None
    try:
        yield
    finally:
        for m, momentum, buffers in before:
            m.momentum = momentum
            m._buffers.update(buffers)
        for m, training in modes.items():
            m.training = training


class NodeStatistics:
    """The BN statistics of one trie node: of one block, behind one prefix."""

    def __init__(self, part: nn.Module) -> None:
        self.norms = [m for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
        self.buffers = [
            {
                "running_mean": torch.zeros_like(m.running_mean),
                "running_var": torch.ones_like(m.running_var),
                "num_batches_tracked": torch.tensor(0),  # on the CPU: read without a sync
            }
            for m in self.norms
        ]

    def lend(self, calibrate: bool) -> None:
        """Put these statistics into the block's BNs, to be updated or to be used."""
        for m, buffers in zip(self.norms, self.buffers, strict=True):
            m._buffers.update(buffers)
            m.training = calibrate


class Evaluator:
    """Callable: architectures int [N, L] -> validation top-1 in percent, float64 [N].

    Scores are cached, and an architecture's score depends on nothing but itself.

    Args:
        supernet: its weights are used and not changed.
        calibration: batches of images [B, 3, H, W] for the BN statistics; at least one.
        validation: (images, labels) batches, iterated anew for every group of candidates.
    """

    def __init__(
        self, supernet: Supernet, calibration: Sequence[Tensor], validation: Batches
    ) -> None:
        if not calibration:
            raise ValueError("calibration needs at least one batch")
        self.supernet = supernet
        self.calibration = calibration
        self.validation = validation
        self.cache: dict[Key, float] = {}

    def __call__(
        self,
        architectures: np.ndarray,
        on_progress: Callable[[float, float | None], None] = lambda done, top1: None,
    ) -> np.ndarray:
        """`on_progress(d, top1)` is told of d more candidates done, and scores once known."""
        keys = list(map(tuple, np.asarray(architectures).tolist()))
        new = sorted(set(keys) - self.cache.keys())
        on_progress(len(keys) - len(new), None)
        with torch.inference_mode(), borrowed_batch_norms(self.supernet):
            for start in range(0, len(new), CHUNK):
                chunk = new[start : start + CHUNK]
                self.cache.update(self.score(chunk, self.validation, on_progress))
        return np.array([self.cache[key] for key in keys])

    def test(self, architecture: np.ndarray, batches: Batches) -> float:
        """Top-1 in percent of one calibrated path on other images; not cached."""
        key = tuple(np.asarray(architecture).tolist())
        with torch.inference_mode(), borrowed_batch_norms(self.supernet):
            return self.score([key], batches, lambda done, top1: None)[key]

    def score(
        self,
        keys: list[Key],
        batches: Batches,
        on_progress: Callable[[float, float | None], None],
    ) -> dict[Key, float]:
        """Calibrate, then count correct answers, for sorted architectures."""
        nodes: dict[Key | None, NodeStatistics] = {}
        num_batches = len(batches)  # type: ignore[arg-type]
        share = 1 / (len(self.calibration) + num_batches)  # of a candidate, done by one batch
        for images in self.calibration:
            for _ in self.walk(images, keys, nodes, calibrate=True):
                on_progress(share, None)
        correct = {key: torch.zeros((), dtype=torch.int64) for key in keys}
        seen = 0
        for i, (images, labels) in enumerate(batches, 1):
            seen += len(labels)
            for key, logits in self.walk(images, keys, nodes, calibrate=False):
                correct[key] = correct[key].to(labels.device) + (logits.argmax(1) == labels).sum()
                last = 100 * correct[key].item() / seen if i == num_batches else None
                on_progress(share, last)
        return {key: 100 * total.item() / seen for key, total in correct.items()}

    def walk(
        self,
        images: Tensor,
        keys: list[Key],
        nodes: dict[Key | None, NodeStatistics],
        calibrate: bool,
    ) -> Iterator[tuple[Key, Tensor]]:
        """Logits [B, num_classes] of every architecture, each common prefix computed once."""
        net = self.supernet

        def lend(node: Key | None, *parts: nn.Module) -> None:
            if node not in nodes:
                nodes[node] = NodeStatistics(nn.ModuleList(parts))
            nodes[node].lend(calibrate)

        lend((), net.stem, net.first)
        stack = [net.first(net.stem(images))]  # stack[i]: the input of layer i
        before: Key = ()
        for key in keys:
            shared = next(
                (i for i, (a, b) in enumerate(zip(before, key, strict=False)) if a != b), 0
            )
            del stack[shared + 1 :]
            for i in range(shared, len(key)):
                lend(key[: i + 1], net.choice_module(i, key[i]))
                stack.append(net.run_layer(stack[-1], i, key[i]))
            lend((*key, -1), net.head)
            before = key
            yield key, net.head(stack[-1])
