"""Two workers with half of the batch each do as one worker with all of it. This file is also the workers' script."""

import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from optim import CLARS, PerSampleNorms

WORKERS, PER_WORKER, STEPS = 2, 6, 3


class Net(nn.Module):
    """Its last layer is unused by every other worker in the second step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(inplace=True), nn.Flatten())
        self.head, self.extra = nn.Linear(36, 3), nn.Linear(36, 3)

    def forward(self, images: torch.Tensor, with_extra: bool) -> torch.Tensor:
        features = self.body(images)
        return self.head(features) + (self.extra(features) if with_extra else 0)


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    samples = WORKERS * PER_WORKER
    images = torch.randn(STEPS, samples, 2, 5, 5, generator=generator, dtype=torch.float64)
    return images, torch.randint(0, 3, (STEPS, samples), generator=generator)


def uses_extra(step: int, rank: int) -> bool:
    return not (step == 1 and rank == 0)


def worker(rank: int, folder: Path, reduction: str, mode: str) -> None:
    torch.distributed.init_process_group(
        "gloo", f"file://{folder}/store", world_size=WORKERS, rank=rank, timeout=timedelta(seconds=60)
    )
    net = Net().double()
    norms = PerSampleNorms(net, mode=mode, subset_size=2, loss_reduction=reduction)
    model = nn.parallel.DistributedDataParallel(net, find_unused_parameters=True)
    optimizer = CLARS(model.parameters(), lr=0.5, weight_decay=0.1, sample_norms=norms)
    images, labels = data()
    found = []
    for step in range(STEPS):
        optimizer.zero_grad()
        halves = slice(0, 3), slice(3, PER_WORKER)
        own = slice(rank * PER_WORKER, (rank + 1) * PER_WORKER)
        for half in halves:  # two micro-batches, only the second of which waits for the other worker
            model.require_backward_grad_sync = half is halves[1]
            output = model(images[step][own][half], uses_extra(step, rank))
            share = 0.5 if reduction == "mean" else 1
            (F.cross_entropy(output, labels[step][own][half], reduction=reduction) * share).backward()
        optimizer.step()
        found.append((norms.latest.means, norms.latest.standard_errors))
    torch.save((found, [param.detach() for param in net.parameters()]), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()
    os._exit(0)  # threads of gloo may abort an orderly end of the interpreter


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_two_workers_do_as_one(run_workers, reduction):
    found = run_workers(__file__, reduction, "exact")
    net = Net().double()
    norms = PerSampleNorms(net, loss_reduction=reduction)
    optimizer = CLARS(net.parameters(), lr=0.5, weight_decay=0.1, sample_norms=norms)
    images, labels = data()
    for step in range(STEPS):
        optimizer.zero_grad()
        for rank in range(WORKERS):
            own = slice(rank * PER_WORKER, (rank + 1) * PER_WORKER)
            output = net(images[step][own], uses_extra(step, rank))
            loss = F.cross_entropy(output, labels[step][own], reduction=reduction)
            (loss / WORKERS if reduction == "mean" else loss).backward()
        if reduction == "sum":
            for param in net.parameters():
                param.grad /= WORKERS  # DistributedDataParallel takes the mean of the workers' gradients in any case
        optimizer.step()
        for of_worker, _ in found:
            torch.testing.assert_close(of_worker[step][0], norms.latest.means, rtol=1e-10, atol=0)
    for _, params in found:
        for a, b in zip(params, net.parameters(), strict=True):
            torch.testing.assert_close(a, b.detach(), rtol=1e-10, atol=1e-14)


def test_workers_agree_on_the_estimate_of_a_subset(run_workers):
    (first, first_params), (second, second_params) = run_workers(__file__, "mean", "subset")
    for (a, a_error), (b, b_error) in zip(first, second, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a_error, b_error)
        assert (a_error > 0).all()
    assert all(torch.equal(a, b) for a, b in zip(first_params, second_params, strict=True))


if __name__ == "__main__":
    worker(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
