"""What a frozen backbone makes of a split, and how well labels were read from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from trainables.evaluation import Evaluation


@dataclass(frozen=True)
class Features:
    """This worker's share of a split."""

    values: Tensor  # (items, width), float32 or wider
    labels: Tensor  # (items,) int64, on the same device


@dataclass(frozen=True)
class Scores:
    """Over a whole split, all workers together."""

    loss: float  # mean negative log-likelihood of the true class
    correct: int
    items: int

    @property
    def accuracy(self) -> float:
        return self.correct / self.items


@torch.no_grad()
def extract_features(backbone: Callable[[Tensor], Tensor], evaluation: Evaluation, split: str) -> Features:
    """The backbone, which must be in evaluation mode, on this worker's share of `split`."""
    values, labels = [], []
    for images, truth in evaluation.batches(split):
        with evaluation.autocast():
            found = backbone(images)
        values.append(found.to(torch.promote_types(found.dtype, torch.float32)))
        labels.append(truth)
    return Features(torch.cat(values), torch.cat(labels))
