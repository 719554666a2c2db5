"""Classification: cross-entropy, scored by accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.config import ConfigError

if TYPE_CHECKING:
    from trainables.evaluation import Evaluation
    from trainables.tasks import ModelMaker, TaskFacts

TOP = 5


class Classification:
    """Cross-entropy; labels are smoothed in training only. Top-5 accuracy where there are more than ten classes."""

    views = 1

    def __init__(self, facts: TaskFacts) -> None:
        if facts.options:
            raise ConfigError(f"classification takes no options, but got {', '.join(sorted(facts.options))}")
        self.classes = facts.classes
        self.label_smoothing = facts.label_smoothing

    def make_model(self, maker: ModelMaker) -> nn.Module:
        return maker.model()

    def loss(self, model: nn.Module, views: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """`loss` (mean over the batch) and `correct` (count) of views[0] (batch, C, H, W), labels (batch,)."""
        logits = _logits(model, views[0])
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return {"loss": loss, "correct": (logits.detach().argmax(dim=1) == labels).sum()}

    def metrics(self, counts: Mapping[str, float], items: int) -> dict[str, float]:
        """Shares from counts summed over `items` samples."""
        return {"accuracy": counts["correct"] / items}

    def evaluate(self, evaluation: Evaluation, split: str) -> dict[str, float]:
        """`loss`, `accuracy`, `top5_accuracy` (more than ten classes), of "test" also `correct` and `items`."""
        totals = evaluation.totals(split, self._measure)
        loss, counts = totals.read()
        return self._scores(loss, counts, totals.items, with_counts=split == "test")

    def worst(self, items: int) -> dict[str, float]:
        """What guessing scores on `items` samples; the count is an expectation, not always whole."""
        counts = {"correct": items / self.classes, "top5": items * TOP / self.classes}
        return self._scores(math.log(self.classes), counts, items, with_counts=True)

    def _measure(self, model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = _logits(model, images)
        counts = {"correct": (logits.argmax(dim=1) == labels).sum()}
        if self.classes > 2 * TOP:
            counts["top5"] = (logits.topk(TOP, dim=1).indices == labels[:, None]).sum()
        return {"loss": F.cross_entropy(logits, labels), **counts}

    def _scores(self, loss: float, counts: Mapping[str, float], items: int, *, with_counts: bool) -> dict[str, float]:
        scores = {"loss": loss, "accuracy": counts["correct"] / items}
        if self.classes > 2 * TOP:
            scores["top5_accuracy"] = counts["top5"] / items
        if with_counts:
            scores |= {"correct": counts["correct"], "items": float(items)}
        return scores


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    logits: Tensor = model(images)
    # half precision is for the layers: the softmax sums in float32, float64 stays
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
