"""Sums over batches that stay on the device until they are read."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.workers import Workers


class Totals:
    """Loss and counts over batches of unequal size."""

    def __init__(self, device: torch.device) -> None:
        self.items = 0
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._counts: dict[str, Tensor] = {}

    def add(self, measured: Mapping[str, Tensor], items: int) -> None:
        """Take in what a task measured on `items` samples (`loss` a mean, the rest sums), without a wait."""
        self.items += items
        self._loss += measured["loss"].detach() * items
        for name, count in measured.items():
            if name != "loss":
                known = self._counts.get(name)
                self._counts[name] = count.detach() if known is None else known + count.detach()

    def over(self, workers: Workers) -> Totals:
        """The sums over all workers; their counts must have the same names."""
        if workers.size == 1:
            return self
        names = sorted(self._counts)
        parts = [self._loss, torch.tensor(float(self.items)), *(self._counts[name] for name in names)]
        summed = workers.sum(torch.stack([part.to(self._loss) for part in parts]))
        totals = Totals(self._loss.device)
        totals._loss, totals.items = summed[0], round(float(summed[1]))
        totals._counts = dict(zip(names, summed[2:], strict=True))
        return totals

    def read(self) -> tuple[float, dict[str, float]]:
        """Mean loss and summed counts; waits for the device."""
        counts = {name: float(count) for name, count in self._counts.items()}
        return float(self._loss) / self.items, counts
