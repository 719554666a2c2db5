"""Workers in two real processes and alone. This file is also the processes' script."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainables.workers import Workers

SIZES = (3, 5)  # samples of each worker
TABLE = torch.randn(sum(SIZES), 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def own(rank: int) -> Tensor:
    return TABLE.split(SIZES)[rank].clone()


def coupled(samples: Tensor, workers: Workers) -> Tensor:
    """A loss whose second sum depends on the first, sample by sample."""
    mean = workers.sum_with_gradient(samples.sum(dim=0)) / sum(SIZES)
    spread = workers.sum_with_gradient((samples - mean).pow(4).sum(dim=0))
    return (mean * spread).sin().sum()


def script(rank: int, folder: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", f"file://{folder}/store", world_size=2, rank=rank, timeout=timedelta(seconds=60)
    )
    workers, mine = Workers.current(), own(rank)
    leaf = mine.clone().requires_grad_()
    loss = coupled(leaf, workers)
    loss.backward()
    found = {
        "workers": (workers.rank, workers.size),
        "share": workers.share(torch.arange(5)),
        "sum": workers.sum(mine.T[:, :2]),
        "count": workers.sum(torch.tensor(rank + 1)),
        "untouched": torch.equal(mine, own(rank)),
        "gather": workers.gather(mine),
        "gather_empty": workers.gather(torch.arange(3 * rank)),
        "agree": [workers.agree(rank == 0), workers.agree(rank == 1)],
        "loss": loss.detach(),
        "gradient": leaf.grad,
    }
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()
    os._exit(0)  # threads of gloo may abort an orderly end of the interpreter


def test_two_processes(run_workers: Callable[..., list[Any]]) -> None:
    reports = run_workers(__file__)
    whole = TABLE.clone().requires_grad_()
    loss = coupled(whole, Workers())
    loss.backward()
    assert [report["workers"] for report in reports] == [(0, 2), (1, 2)]
    assert [report["share"].tolist() for report in reports] == [[0, 1, 2], [3, 4]]
    for rank, report in enumerate(reports):
        assert report["untouched"]
        torch.testing.assert_close(report["sum"], own(0).T[:, :2] + own(1).T[:, :2])
        assert int(report["count"]) == 3
        assert torch.equal(report["gather"], TABLE)
        assert report["gather_empty"].tolist() == [0, 1, 2]
        assert report["agree"] == [True, False]
        torch.testing.assert_close(report["loss"], loss.detach(), rtol=1e-12, atol=0)
        # every worker differentiates the same loss: the sum of what they differentiate is twice that loss
        torch.testing.assert_close(report["gradient"] / 2, whole.grad.split(SIZES)[rank], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("flag", [True, False])
def test_alone(flag: bool) -> None:
    workers = Workers.current()
    assert workers == Workers(rank=0, size=1)
    leaf = TABLE.clone().requires_grad_()
    assert torch.equal(workers.share(leaf), TABLE)
    for alone in (workers.sum(leaf), workers.gather(leaf)):
        assert torch.equal(alone, TABLE)
        assert not alone.requires_grad
    (gradient,) = torch.autograd.grad(workers.sum_with_gradient(leaf).sum(), leaf)
    assert torch.equal(gradient, torch.ones_like(TABLE))
    assert workers.agree(flag) is flag


if __name__ == "__main__":
    script(int(sys.argv[1]), Path(sys.argv[2]))
