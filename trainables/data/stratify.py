"""Cutting items into splits: exact sizes, every class in its share, by a seed alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.config import ConfigError

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SplitIndices:
    """Where each item goes; sorted, disjoint, together everything."""

    train: IntArray
    validation: IntArray
    test: IntArray


def stratified_indices(
    labels: IntArray, *, validation_fraction: float, test_fraction: float, seed: int
) -> SplitIndices:
    """Cut items into train, validation and test with every class's share within one item of proportional.

    Sizes are exact: validation and test take `ceil(items * fraction)`, train takes the rest. `labels` is
    (items,). Raises ConfigError where a split would be empty; the test split may be, at fraction 0.
    """
    items = len(labels)
    # 1e-9: 0.07 * 100 is a hair above 7
    held_out = [math.ceil(items * fraction - 1e-9) for fraction in (validation_fraction, test_fraction)]
    sizes = np.array([items - sum(held_out), *held_out])
    if sizes[: 3 if test_fraction > 0 else 2].min() < 1:
        raise ConfigError(f"every split needs at least 1 item, but {items} items give sizes {sizes.tolist()}")
    classes, inverse = np.unique(labels, return_inverse=True)
    shares = _controlled_rounding(np.bincount(inverse), sizes)
    generator = np.random.default_rng(seed)
    parts: list[list[IntArray]] = [[], [], []]
    for index in range(len(classes)):
        members = generator.permutation(np.flatnonzero(inverse == index))
        for part, chunk in zip(parts, np.split(members, np.cumsum(shares[index])[:-1]), strict=True):
            part.append(chunk)
    train, validation, test = (np.sort(np.concatenate(part)) for part in parts)
    return SplitIndices(train, validation, test)


def _controlled_rounding(rows: IntArray, columns: IntArray) -> IntArray:
    """Integers with these row and column sums, each at most one away from rows x columns / total.

    Everyone gets the floor; a row's leftover items go to the columns that lack most, the rule by which Gale
    and Ryser fill a 0-1 matrix, so it never runs dry.
    """
    shares = np.outer(rows, columns) // columns.sum()
    lacking = columns - shares.sum(axis=0)
    for row, leftover in enumerate(rows - shares.sum(axis=1)):
        chosen = np.argsort(-lacking, kind="stable")[:leftover]
        shares[row, chosen] += 1
        lacking[chosen] -= 1
    return np.asarray(shares, dtype=np.int64)
