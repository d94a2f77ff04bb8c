"""Stratified splits in numpy: those of scikit-learn's `train_test_split`, index for index.

Importing sklearn.model_selection takes a second, more than all else a run does before its first
step but importing torch. Legend: N images, C classes.
"""

from __future__ import annotations

import math

import numpy as np


def _shares(counts: np.ndarray, number: int, rng: np.random.RandomState) -> np.ndarray:
    """Spread `number` images over classes [C] in proportion to their counts [C].

    Rounded down, and those left over go to the largest remainders; ties are broken at random.
    """
    wanted = counts / counts.sum() * number
    shares = np.floor(wanted)
    left = int(number - shares.sum())
    remainders = wanted - shares
    for value in np.unique(remainders)[::-1]:  # largest first
        if left == 0:
            break
        tied = np.flatnonzero(remainders == value)
        chosen = rng.choice(tied, size=min(len(tied), left), replace=False)
        shares[chosen] += 1
        left -= len(chosen)
    return shares.astype(np.int64)


def stratified_split(
    labels: np.ndarray, first_portion: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split labels [N] into two parts: shuffled indices, as scikit-learn splits them by

    `train_test_split(np.arange(N), train_size=first_portion, stratify=labels, random_state=seed)`.

    Raises:
        ValueError: a part is smaller than the number of classes.
    """
    _, counts = np.unique(labels, return_counts=True)
    first_size = math.floor(first_portion * len(labels))
    second_size = len(labels) - first_size
    if min(first_size, second_size) < len(counts):
        raise ValueError(f"{first_size} and {second_size} images for {len(counts)} classes")
    rng = np.random.RandomState(seed)  # the generator of scikit-learn's splits
    first_shares = _shares(counts, first_size, rng)
    second_shares = _shares(counts - first_shares, second_size, rng)  # of those left
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    first, second = [], []
    for rows, n, m in zip(by_class, first_shares, second_shares, strict=True):
        shuffled = rows[rng.permutation(len(rows))]
        first.append(shuffled[:n])
        second.append(shuffled[n : n + m])
    return rng.permutation(np.concatenate(first)), rng.permutation(np.concatenate(second))
