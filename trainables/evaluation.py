"""What a task is given to score a model: the splits as the model sees them, without randomness."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainables.totals import Totals
from trainables.workers import Workers

if TYPE_CHECKING:
    from trainables.session import Session


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a session's model, which is in evaluation mode. Every worker sees its share of each split."""

    session: Session
    poll: Callable[[], None]
    last: bool
    """Whether it follows the last epoch."""

    @property
    def model(self) -> nn.Module:
        return self.session.model

    @property
    def classes(self) -> int:
        return self.session.splits.classes

    @property
    def seed(self) -> int:
        return self.session.config.seed

    @property
    def workers(self) -> Workers:
        return self.session.workers

    @property
    def device(self) -> torch.device:
        return self.session.device

    def items(self, split: str) -> int:
        """Of the whole split, over all workers."""
        return len(self.session.split(split))

    def batches(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images (batch, C, S, S) and labels (batch,) of this worker's share of "train", "validation" or
        "test", in order and in chunks of the micro-batch size; as many chunks on every worker."""
        workers, items = self.session.workers, self.items(split)
        share = workers.share(torch.arange(items))
        chunks = math.ceil(math.ceil(items / workers.size) / self.session.config.micro_batch_size)
        for images, labels in self.session.split(split).batches(share.tensor_split(chunks)):
            self.poll()
            if len(labels):  # a worker may have fewer samples than others have chunks
                yield self.session.clean(images), labels

    def autocast(self) -> AbstractContextManager[object]:
        return self.session.autocast()

    def totals(self, split: str, measure: Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]]) -> Totals:
        """What `measure(model, images, labels)` gives, summed over the split and over all workers."""
        totals = Totals(self.device)
        for images, labels in self.batches(split):
            with self.autocast():
                totals.add(measure(self.model, images, labels), len(labels))
        return totals.over(self.workers)
