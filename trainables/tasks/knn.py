"""Weighted nearest neighbours on frozen features: how far equal classes lie together, without anything to train.

Wu, Xiong, Yu, Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", arXiv 1805.01978,
section 3.4: each of the k most similar training samples votes for its class with weight exp(cosine / temperature).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.tasks.features import Features, Scores
from trainables.workers import Workers

SIMILARITIES = {"cpu": 1 << 24}  # held at once
DEVICE_SIMILARITIES = 1 << 28


@torch.no_grad()
def knn_scores(
    bank: Features,
    queries: Features,
    *,
    classes: int,
    neighbours: int,
    temperature: float,
    workers: Workers,
    poll: Callable[[], None],
) -> Scores:
    """Class the queries by their neighbours in the bank, the shares of all workers in both.

    At most `neighbours` vote, and no more than a class has samples on average: else a small set's neighbourhoods
    would be full of other classes however well they are apart. The loss takes the votes for a probability, with
    one voter added whose vote is split over all classes, so that it is finite: log(classes) where votes say nothing.
    """
    own = F.normalize(bank.values, dim=1)
    values = F.normalize(workers.gather(queries.values), dim=1)
    labels = workers.gather(queries.labels)
    items = int(workers.sum(torch.tensor(len(own), device=own.device)))
    k = max(1, min(neighbours, items // classes))
    room = SIMILARITIES.get(own.device.type, DEVICE_SIMILARITIES)
    chunk = max(1, room // max(1, -(-items // workers.size)))  # the same on every worker: they meet at each
    loss = torch.zeros((), dtype=torch.float64, device=own.device)
    correct = torch.zeros((), dtype=torch.int64, device=own.device)
    for start in range(0, len(values), chunk):
        poll()
        wanted, truth = values[start : start + chunk], labels[start : start + chunk]
        similarity, voters = _nearest(own, bank.labels, wanted, k, workers)
        # relative to the nearest one, so that no exponential overflows
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
        votes = weights.new_zeros(len(truth), classes).scatter_add_(1, voters, weights)
        share = votes / weights.sum(dim=1, keepdim=True)
        chance = (k * share + 1 / classes) / (k + 1)
        loss -= chance.gather(1, truth[:, None]).log().sum()
        correct += (votes.argmax(dim=1) == truth).sum()
    return Scores(float(loss) / len(labels), int(correct), len(labels))


def _nearest(own: Tensor, labels: Tensor, wanted: Tensor, k: int, workers: Workers) -> tuple[Tensor, Tensor]:
    """Similarities and labels (queries, k) of the nearest samples in all workers' banks, the nearest first.

    Every worker offers its own nearest; the nearest of all are among them.
    """
    similarity, places = (own @ wanted.T).topk(min(k, len(own)), dim=0)
    similarity, voters = workers.gather(similarity), workers.gather(labels[places])
    similarity, order = similarity.topk(k, dim=0)
    return similarity.T, voters.gather(0, order).T
