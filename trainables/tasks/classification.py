"""Classification: cross-entropy, scored by accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Classification:
    """Cross-entropy over `classes`; labels are smoothed in training only."""

    def __init__(self, *, classes: int, label_smoothing: float = 0.0) -> None:
        self.classes = classes
        self.label_smoothing = label_smoothing

    def measure(self, model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """`loss` (mean over the batch) and `correct` (count) of images (batch, C, H, W), labels (batch,)."""
        logits = model(images)
        # half precision is for the layers: the softmax sums in float32, float64 stays
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        smoothing = self.label_smoothing if model.training else 0.0
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        return {"loss": loss, "correct": (logits.detach().argmax(dim=1) == labels).sum()}

    def metrics(self, counts: Mapping[str, float], items: int) -> dict[str, float]:
        """Shares from counts summed over `items` samples."""
        return {"accuracy": counts["correct"] / items}

    def worst(self, items: int) -> dict[str, float]:
        """What guessing scores on `items` samples; the count is an expectation, not always whole."""
        return {"loss": math.log(self.classes), "correct": items / self.classes}
