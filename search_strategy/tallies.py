"""Scores beside top-1: what is summed over the images of a candidate, and what it gives."""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

SCORES = {  # name -> in words
    "top1": "top-1",
    "probability": "mean probability of the true class",
    "separation": "mix of probability and separation",
}


class Tally(Protocol):
    """Sums of one candidate; on the images' device, so that adding does not wait for a GPU.

    `by_class` is True if they include float64 sums of features by class, [K, D].
    """

    by_class: ClassVar[bool]

    def add(self, features: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add images: their last features [B, D], logits [B, K] and labels [B]."""

    def score(self) -> float:
        """Return the score of the images so far, in percent."""


class Probability:
    """The mean over images of the true class's probability."""

    by_class: ClassVar[bool] = False

    def __init__(self) -> None:
        self.total: Tensor | float = 0.0
        self.images = 0

    def add(self, features: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.total += logits.softmax(1).gather(1, labels[:, None]).sum()
        self.images += len(labels)

    def score(self) -> float:
        return 100 * float(self.total) / self.images


class Separation(Probability):
    """The probability, weighed by how far the last features keep the classes apart.

    Fisher's criterion by feature: its variance between the means of the classes over that within
    classes, where the mean of the latter over all features is added to it, so that a feature that
    hardly varies counts little. Its mean over features needs no classifier, which all paths share,
    and errs about other choices than the probability does; the score is the geometric mean of both,
    four parts probability (docs/results.md). It can exceed 100 %.
    """

    by_class: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.members: Tensor | float = 0.0  # images by class [K]
        self.sums: Tensor | float = 0.0  # of the features, by class [K, D]
        self.squares: Tensor | float = 0.0  # of the features, [D]

    def add(self, features: Tensor, logits: Tensor, labels: Tensor) -> None:
        super().add(features, logits, labels)
        exact = torch.float32 if features.device.type == "mps" else torch.float64
        x = features.to(exact)  # the criterion is a difference of sums
        members = F.one_hot(labels, logits.shape[1]).to(x)  # [B, K]
        self.members += members.sum(0)
        self.sums += members.T @ x
        self.squares += x.square().sum(0)

    def criterion(self) -> float:
        """Return the mean over features, 0 where they do not vary between classes."""
        n = torch.as_tensor(self.members)[:, None]
        sums = torch.as_tensor(self.sums)
        of_means = (sums.square() / n.clamp(min=1)).sum(0) / n.sum()  # no image of a class: sum 0
        between = (of_means - (sums.sum(0) / n.sum()).square()).clamp(min=0)
        within = (torch.as_tensor(self.squares) / n.sum() - of_means).clamp(min=1e-12)
        return float((between / (within + within.mean())).mean())

    def score(self) -> float:
        return super().score() ** 0.8 * (100 * self.criterion()) ** 0.2


TALLIES: dict[str, type[Tally]] = {"probability": Probability, "separation": Separation}
