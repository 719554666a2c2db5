"""A linear classifier on frozen features: how much of the classes they hold.

Multinomial logistic regression on standardised features, all at once, by L-BFGS from zero. Its loss is convex: there
is no learning rate, no order and no seed that could favour one arm, and the result does not depend on the features'
scale. The published probes train by SGD with learning rate 0.3 instead, whose best value depends on that scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.tasks.features import Features, Scores
from trainables.workers import Workers

LOGITS = 1 << 24
"""Held at once."""
CONSTANT = 1e-10
"""A feature whose variance is below this share of its mean square is constant up to rounding."""


@dataclass(frozen=True)
class LinearProbe:
    table: Tensor  # (classes, width + 1): weights of standardised features, and the bias
    mean: Tensor  # (width,)
    deviation: Tensor  # (width,), 1 where a feature is constant

    @torch.no_grad()
    def scores(self, features: Features, workers: Workers) -> Scores:
        """Cross-entropy and hits on the shares of all workers."""
        sums = torch.zeros(3, dtype=torch.float64, device=features.values.device)  # loss, correct, items
        for rows, truth in _chunks(_design(features.values, self.mean, self.deviation), features.labels, self.table):
            logits = rows @ self.table.T
            sums[0] += torch.nn.functional.cross_entropy(logits, truth, reduction="sum")
            sums[1] += (logits.argmax(dim=1) == truth).sum()
            sums[2] += len(truth)
        loss, correct, items = workers.sum(sums).tolist()
        return Scores(loss / items, round(correct), round(items))


@torch.no_grad()
def fit_linear_probe(
    train: Features,
    *,
    classes: int,
    l2: float,
    iterations: int,
    workers: Workers,
    poll: Callable[[], None],
) -> LinearProbe:
    """Minimise the mean cross-entropy over all workers' samples plus l2 / 2 times the squared norm of the weights.

    The bias is free of the penalty. Stops after `iterations` of L-BFGS, or where nothing changes any more.
    """
    values, labels = train.values, train.labels
    items = workers.sum(torch.full((), float(len(values)), dtype=torch.float64, device=values.device))
    mean = workers.sum(values.sum(dim=0, dtype=torch.float64)) / items
    variance = workers.sum((values - mean.to(values.dtype)).square().sum(dim=0, dtype=torch.float64)) / items
    constant = variance <= CONSTANT * (mean.square() + variance)
    deviation = variance.sqrt().where(~constant, 1.0).to(values.dtype)
    mean = mean.to(values.dtype)

    rows = _design(values, mean, deviation)
    table = rows.new_zeros(classes, rows.shape[1], requires_grad=True)
    penalty = torch.full_like(table, l2)
    penalty[:, -1] = 0.0

    def closure() -> Tensor:
        poll()
        loss, gradient = _loss_and_gradient(table.detach(), rows, labels)
        total = workers.sum(torch.cat([loss[None], gradient.flatten()])) / items.to(rows.dtype)
        table.grad = total[1:].view_as(table) + penalty * table.detach()
        return total[0] + (penalty * table.detach().square()).sum() / 2

    optimizer = torch.optim.LBFGS(
        [table], max_iter=iterations, tolerance_grad=1e-6, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )
    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return LinearProbe(table.detach(), mean, deviation)


def _loss_and_gradient(table: Tensor, rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy summed over the samples, and its gradient, (classes, width + 1)."""
    loss, gradient = rows.new_zeros(()), torch.zeros_like(table)
    for part, truth in _chunks(rows, labels, table):
        log_p = (part @ table.T).log_softmax(dim=1)
        loss -= log_p.gather(1, truth[:, None]).sum()
        error = log_p.exp_()
        error[torch.arange(len(truth), device=truth.device), truth] -= 1
        gradient.addmm_(error.T, part)
    return loss, gradient


def _design(values: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Standardised features with a column of ones for the bias: (items, width + 1)."""
    rows = values.new_ones(len(values), values.shape[1] + 1)
    torch.sub(values, mean, out=rows[:, :-1])
    rows[:, :-1] /= deviation
    return rows


def _chunks(rows: Tensor, labels: Tensor, table: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    size = max(1, LOGITS // len(table))
    for start in range(0, len(rows), size):
        yield rows[start : start + size], labels[start : start + size]
