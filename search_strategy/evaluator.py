"""Validation accuracy of architectures on a supernet's weights, with BN calibrated per path.

A path's BN statistics in the supernet are a mixture over all paths, so they are estimated again
for each candidate (SPOS, https://arxiv.org/abs/1904.00420, section 3.3): reset, then the cumulative
mean (momentum None) over batches of training images as they are, without augmentation.

Candidates that begin with the same choices share that work. In lexicographic order they are the
leaves of a trie, and a walk through it computes each node's statistics and activations once:
activations are kept where a later candidate branches off.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from lookup_table import architecture_keys
from model.supernet import Supernet
from search_strategy.folding import HEAD, STEM, ConvState, Parts
from search_strategy.scores import Key, OnProgress, Scored, no_progress
from search_strategy.tallies import SCORES, TALLIES
from utils.evaluation import Batches

Nodes = dict[Key, list[ConvState]]  # the BN statistics of each trie node
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
CHUNK = 512  # architectures whose BN statistics (some 0.3 MB each) are held at a time
GROUP = 512  # validation images that go through the trie at a time, at least
CACHE_MB = 512  # default bound of the activations kept at branching points


def common_prefix(a: Key, b: Key) -> int:
    """Count the choices that two architectures begin with in common."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))


def branching_points(keys: Sequence[Key]) -> list[set[int]]:
    """List for each of the sorted keys the depths at which a later one leaves its path."""
    points: list[set[int]] = [set()]
    for key, following in zip(keys[-2::-1], keys[:0:-1], strict=True):  # last pair first
        shared = common_prefix(key, following)
        points.append({d for d in points[-1] if d < shared} | {shared})  # deeper: off this path
    return points[::-1]


class ActivationCache:
    """Activations of the current prefix by depth, of at most `limit` bytes together.

    For want of room the shallowest go first: they are the largest, and cost least to compute again.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.kept: dict[int, Tensor] = {}

    @property
    def nbytes(self) -> int:
        # by address: a skip returns its input, so two depths can hold one tensor
        return sum({t.data_ptr(): t.nbytes for t in self.kept.values()}.values())

    def keep(self, depth: int, x: Tensor) -> None:
        self.kept[depth] = x
        while self.nbytes > self.limit:
            del self.kept[min(self.kept)]

    def deepest(self, depth: int) -> int | None:
        """Return the greatest depth kept that is not beyond `depth`."""
        return max((d for d in self.kept if d <= depth), default=None)

    def drop_all_but(self, depths: set[int]) -> None:
        self.kept = {d: x for d, x in self.kept.items() if d in depths}


def grouped(batches: Batches) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Join batches to at least GROUP images: images, labels, and how many batches they were."""
    group: list[tuple[Tensor, Tensor]] = []
    for batch in itertools.chain(batches, [None]):  # None flushes the last group
        if batch is not None:
            group.append(batch)
        if group and (batch is None or sum(len(labels) for _, labels in group) >= GROUP):
            images, labels = (torch.cat(tensors) for tensors in zip(*group, strict=True))
            yield images, labels, len(group)
            group = []


class Evaluator:
    """Scores architectures by the weights of a supernet; none is remembered.

    Args:
        supernet: its weights are used, nothing of it is changed.
        calibration: batches of images [B, 3, H, W] for the BN statistics; at least one.
        validation: (images, labels) batches, iterated anew for every group of candidates.
        precision: of convolutions and activations; statistics and classifier are float32 always.
        cache_mb: bound of the activations kept at branching points, in MiB; what finds no room
            is computed again.
        score: "top1", or one of `TALLIES`, which also tell apart networks that are right about the
            same images.

    Raises:
        ValueError: no calibration batch, or an unknown precision or score.
    """

    def __init__(
        self,
        supernet: Supernet,
        calibration: Sequence[Tensor],
        validation: Batches,
        precision: str = "fp32",
        cache_mb: int = CACHE_MB,
        score: str = "top1",
    ) -> None:
        if not calibration:
            raise ValueError("calibration needs at least one batch")
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
        if score not in SCORES:
            raise ValueError(f"score {score!r} is not one of {', '.join(SCORES)}")
        self.supernet = supernet
        self.parts = Parts(supernet)
        self.calibration = calibration
        self.validation = validation
        self.dtype = PRECISIONS[precision]
        self.cache_bytes = cache_mb << 20  # MiB -> bytes
        self.tally = TALLIES.get(score)
        self.chunk = CHUNK
        if self.tally and self.tally.by_class:  # [K, D] per candidate: 10 MB with 1,000 classes
            entries = supernet.head.classifier.weight.numel()
            self.chunk = max(1, min(CHUNK, (CACHE_MB << 20) // (8 * entries)))

    def __call__(self, architectures: np.ndarray) -> np.ndarray:
        """Return scores in percent, float64 [N], of any architectures int [N, L]."""
        distinct, which = np.unique(architectures, axis=0, return_inverse=True)  # rows sorted
        return self.score(distinct)[which.reshape(-1), 0]  # numpy 2.0 gives it a second axis

    def score(self, architectures: np.ndarray, on_progress: OnProgress = no_progress) -> np.ndarray:
        """Calibrate, then count correct answers, as `Scorer.score`."""
        scores = np.empty((len(architectures), 2))
        for start in range(0, len(architectures), self.chunk):
            keys = architecture_keys(architectures[start : start + self.chunk])
            scores[start : start + self.chunk] = self._score(keys, self.validation, on_progress)
        return scores

    def test(self, architecture: np.ndarray, batches: Batches) -> float:
        """Return the top-1 in percent of one calibrated path int [L] on other images."""
        return self._score(architecture_keys(architecture[None]), batches, no_progress)[0][1]

    @torch.inference_mode()
    def _score(self, keys: list[Key], batches: Batches, on_progress: OnProgress) -> list[Scored]:
        num_batches = len(batches)  # type: ignore[arg-type]
        share = 1 / (len(self.calibration) + num_batches)  # of a candidate, done by one batch
        nodes = self.calibrate(keys, lambda: on_progress(share, None))
        correct: dict[Key, Tensor | int] = dict.fromkeys(keys, 0)
        tallies = {key: self.tally() for key in keys} if self.tally else {}
        images_seen = batches_seen = 0
        for images, labels, size in grouped(batches):
            images_seen += len(labels)
            batches_seen += size
            for key, features in self.walk(images, keys, nodes, calibrate=False):
                logits = self.parts.classifier(features)  # [B, num_classes]
                correct[key] += (logits.argmax(1) == labels).sum()  # a tensor: no sync per group
                if key in tallies:
                    tallies[key].add(features, logits, labels)
                done = batches_seen == num_batches  # int() below waits for a GPU
                on_progress(share * size, 100 * int(correct[key]) / images_seen if done else None)
        top1 = [100 * int(total) / images_seen for total in correct.values()]
        scores = [tally.score() for tally in tallies.values()] or top1
        return list(zip(scores, top1, strict=True))

    @torch.inference_mode()
    def calibrate(self, keys: list[Key], on_candidate: Callable[[], None] = lambda: None) -> Nodes:
        """Estimate the BN statistics of the blocks on the paths of sorted architectures."""
        nodes: Nodes = {}
        for images in self.calibration:
            for _ in self.walk(images, keys, nodes, calibrate=True):
                on_candidate()
        return nodes

    def walk(
        self, images: Tensor, keys: list[Key], nodes: Nodes, calibrate: bool
    ) -> Iterator[tuple[Key, Tensor]]:
        """Yield the last features [B, D] of all architectures; common prefixes run once."""

        def run(x: Tensor, node: Key, layer: int, choice: int = 0) -> Tensor:
            part = self.parts(layer, choice)
            new = calibrate and node not in updated
            states = nodes[node] if node in nodes else nodes.setdefault(node, part.new_states())
            if not calibrate:
                return part.run(x, states)
            updated.add(node)
            return part.calibrate(x, states, update=new)

        updated: set[Key] = set()  # nodes computed again must not count this batch twice
        cache = ActivationCache(self.cache_bytes)
        images = images.to(self.dtype, memory_format=torch.channels_last)
        before: Key | None = None
        for key, points in zip(keys, branching_points(keys), strict=True):
            depth = cache.deepest(common_prefix(before, key)) if before else None  # None: anew
            x = run(images, (), STEM) if depth is None else cache.kept[depth]  # input of `depth`
            cache.drop_all_but(points)  # no later candidate branches off elsewhere
            for layer in range(depth or 0, len(key)):
                if layer in points:
                    cache.keep(layer, x)  # the input of `layer`
                x = run(x, key[: layer + 1], layer, key[layer])  # a node is a prefix
            before = key
            yield key, run(x, (*key, HEAD), HEAD)  # HEAD is no choice, so the node is unique


def uncalibrated_top1(supernet: Supernet, architecture: np.ndarray, batches: Batches) -> float:
    """Return the top-1 in percent of a path with the batch-norm statistics of its training."""
    training = supernet.training
    supernet.eval()
    correct, seen = 0, 0
    with torch.inference_mode():
        for images, labels in batches:
            correct += (supernet(images, architecture).argmax(1) == labels).sum().item()
            seen += len(labels)
    supernet.train(training)
    return 100 * correct / seen
