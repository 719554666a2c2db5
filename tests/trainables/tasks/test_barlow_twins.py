"""Barlow Twins: the loss from its formula, alone and over two processes (of which this file is also the script)."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainables.config import ConfigError
from trainables.tasks import CoupledTask, ModelMaker, TaskFacts
from trainables.tasks.barlow_twins import EPSILON, BarlowTwins, TwinNetwork
from trainables.tasks.coupled import coupled_gradient
from trainables.workers import Workers

SAMPLES, WIDTH, CLASSES = 11, 6, 3
SPLITS = {"train": 60, "validation": 25, "test": 31}


def make_task(**options: Any) -> BarlowTwins:
    return BarlowTwins(TaskFacts(CLASSES, options={"projector": "5", "knn_neighbours": 7, **options}))


def make_model() -> TwinNetwork:
    """Nothing but the loss couples its samples."""
    torch.manual_seed(0)
    return TwinNetwork(nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh()), 8, make_task().options.widths).double()


def views() -> list[Tensor]:
    first, noise = torch.randn(2, SAMPLES, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [first, first + 0.3 * noise]


def step(workers: Workers, micro_batches: int) -> tuple[Tensor, list[Tensor]]:
    """Loss of the global batch, and the mean of the parameters' gradients over the workers."""
    model, task = make_model(), make_task()
    parts = workers.share(torch.arange(SAMPLES)).tensor_split(micro_batches)
    measured = coupled_gradient(
        task, model, [lambda part=part: [view[part] for view in views()] for part in parts], workers, nullcontext
    )
    gradients = [parameter.grad for parameter in model.parameters()]
    return measured["loss"], [workers.sum(gradient) / workers.size for gradient in gradients]


def evaluation(workers: Workers) -> Any:
    """Three clouds of points as images, with a linear backbone."""
    backbone = nn.Linear(WIDTH, 4, bias=False).double()
    with torch.no_grad():
        backbone.weight.copy_(torch.eye(4, WIDTH) + torch.linspace(-0.3, 0.3, 4 * WIDTH).view(4, WIDTH))

    def batches(split: str) -> Iterator[tuple[Tensor, Tensor]]:
        generator = np.random.default_rng(len(split))
        labels = generator.integers(0, CLASSES, SPLITS[split])
        images = torch.from_numpy(np.eye(WIDTH)[labels] + 0.4 * generator.normal(size=(SPLITS[split], WIDTH)))
        for places in workers.share(torch.arange(SPLITS[split])).split(8):
            yield images[places], torch.from_numpy(labels)[places]

    model = TwinNetwork(backbone, 4, (3,)).eval()
    return SimpleNamespace(model=model, batches=batches, workers=workers, autocast=nullcontext, poll=lambda: None)


def script(rank: int, folder: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", f"file://{folder}/store", world_size=2, rank=rank, timeout=timedelta(seconds=60)
    )
    workers = Workers.current()
    scores = [make_task().evaluate(evaluation(workers), split) for split in ("validation", "test")]
    torch.save({"one": step(workers, 1), "two": step(workers, 2), "scores": scores}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()
    os._exit(0)  # threads of gloo may abort an orderly end of the interpreter


def reference(embeddings: np.ndarray[Any, Any], weight: float) -> float:
    """Entry by entry."""
    samples, _, width = embeddings.shape
    z = (embeddings - embeddings.mean(axis=0)) / np.sqrt(embeddings.var(axis=0) + EPSILON)
    loss = 0.0
    for i in range(width):
        for j in range(width):
            correlation = sum(z[b, 0, i] * z[b, 1, j] for b in range(samples)) / samples
            loss += (1 - correlation) ** 2 if i == j else weight * correlation**2
    return loss


@pytest.mark.parametrize("width", [1, 2, 7])
@pytest.mark.parametrize("weight", [0.005, 0.0, 2.0])
def test_loss_is_the_papers(width: int, weight: float) -> None:
    embeddings = np.random.default_rng(0).normal(1.0, 2.0, size=(SAMPLES, 2, width))
    embeddings[:, 1] += embeddings[:, 0]
    loss = make_task(off_diagonal_weight=weight).embedding_loss(torch.from_numpy(embeddings), Workers())["loss"]
    assert float(loss) == pytest.approx(reference(embeddings, weight), rel=1e-12)


def test_normalisation_is_batchnorm() -> None:
    """Against torch's own layer, in float32."""
    z = torch.randn(SAMPLES, 2, 4, generator=torch.Generator().manual_seed(2))
    norm = nn.BatchNorm1d(4, affine=False)
    correlation = norm(z[:, 0]).T @ norm(z[:, 1]) / SAMPLES
    rest = correlation - correlation.diagonal().diag()
    expected = (1 - correlation.diagonal()).square().sum() + 0.005 * rest.square().sum()
    torch.testing.assert_close(make_task().embedding_loss(z, Workers())["loss"], expected, rtol=1e-5, atol=0)


def test_gradient() -> None:
    embeddings = torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    task = make_task(off_diagonal_weight=0.3)
    assert torch.autograd.gradcheck(lambda z: task.embedding_loss(z, Workers())["loss"], embeddings.requires_grad_())


def test_half_precision_ends_at_the_embeddings() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = make_task().embed(make_model().float(), [view.float() for view in views()])
        loss = make_task().embedding_loss(embeddings, Workers())["loss"].detach()
    assert embeddings.dtype == loss.dtype == torch.float32
    expected = reference(embeddings.detach().double().numpy(), 0.005)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_two_workers_do_as_one(run_workers: Callable[..., list[Any]]) -> None:
    """Loss and gradient with shares of 6 and 5, in one pass and in two; the scores over both shares."""
    reports = run_workers(__file__)
    loss, gradients = step(Workers(), 1)
    expected = [make_task().evaluate(evaluation(Workers()), split) for split in ("validation", "test")]
    assert math.isfinite(float(loss))
    assert max(float(gradient.norm()) for gradient in gradients) > 1e-3
    for report in reports:
        for passes in ("one", "two"):
            found, found_gradients = report[passes]
            torch.testing.assert_close(found, loss, rtol=1e-10, atol=0)
            torch.testing.assert_close(found_gradients, gradients, rtol=1e-8, atol=1e-12)
        for scores, whole in zip(report["scores"], expected, strict=True):
            assert scores == pytest.approx(whole, rel=1e-4)


def test_loss_of_a_batch_by_itself() -> None:
    model, task = make_model(), make_task()
    loss = task.loss(model, views(), torch.zeros(SAMPLES, dtype=torch.int64))["loss"]
    expected, gradients = step(Workers(), 1)
    found = torch.autograd.grad(loss, list(model.parameters()))
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(list(found), gradients, rtol=1e-10, atol=1e-13)


def test_the_model() -> None:
    """Any backbone's width; BatchNorm between the projector's layers, none behind the last."""
    maker = ModelMaker("resnet8", (1, 8, 8), classes=10)
    model = make_task(projector="32-16-24").make_model(maker)
    assert [type(layer).__name__ for layer in model.projector] == [
        *("Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear")
    ]
    images = torch.randn(4, 1, 8, 8)
    assert model(images).shape == (4, 24)
    assert model.backbone(images).shape == (4, 64)
    embeddings = make_task().embed(model.eval(), [images, -images])
    assert torch.equal(embeddings[:, 1], model(-images))
    assert make_task(projector=16).options.widths == (16,)


def test_evaluation() -> None:
    task, context = make_task(), evaluation(Workers())
    validation, test = task.evaluate(context, "validation"), task.evaluate(context, "test")
    assert validation.keys() == {"loss", "accuracy", "knn_accuracy"}
    assert validation["accuracy"] == validation["knn_accuracy"] > 0.6
    assert test.keys() == task.worst(31).keys() == {*validation, "correct", "items"}
    assert test["items"] == 31
    assert test["accuracy"] == test["correct"] / 31 > 0.6
    assert all(math.isfinite(value) for value in (*validation.values(), *test.values()))
    assert task.evaluate(context, "test") == test


def test_worst_is_guessing() -> None:
    worst = make_task().worst(60)
    assert worst == {
        "loss": math.log(3), "accuracy": 1 / 3, "correct": 20.0, "items": 60.0, "knn_accuracy": 1 / 3,
    }  # fmt: skip
    assert make_task().metrics({}, 60) == {}


def test_it_couples() -> None:
    assert isinstance(make_task(), CoupledTask)
    assert BarlowTwins.views == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projektor": "8"}, "an option of barlow_twins must be one of .*did you mean 'projector'"),
        ({"projector": "8-"}, "option projector of barlow_twins must be the widths .* but got '8-'"),
        ({"projector": "8-0"}, "option projector"),
        ({"projector": "8,8"}, "option projector"),
        ({"projector": ""}, "option projector"),
        ({"projector": True}, "option projector"),
        ({"projector": -8}, "option projector"),
        ({"off_diagonal_weight": -0.1}, "option off_diagonal_weight of barlow_twins must be a number of at least 0"),
        ({"off_diagonal_weight": "much"}, "option off_diagonal_weight .* but got 'much'"),
        ({"knn_neighbours": 0}, "option knn_neighbours of barlow_twins must be a whole number of at least 1"),
        ({"knn_neighbours": 2.5}, "option knn_neighbours"),
        ({"probe_iterations": True}, "option probe_iterations"),
        ({"knn_temperature": 0.0}, "option knn_temperature"),
        ({"probe_l2": math.nan}, "option probe_l2"),
    ],
)
def test_bad_options(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BarlowTwins(TaskFacts(CLASSES, options=options))


def test_what_it_cannot_do() -> None:
    with pytest.raises(ConfigError, match="without labels: label_smoothing must be 0"):
        BarlowTwins(TaskFacts(CLASSES, label_smoothing=0.1))
    with pytest.raises(ConfigError, match="2 samples or more in every micro-batch"):
        make_task().embed(make_model(), [view[:1] for view in views()])


if __name__ == "__main__":
    script(int(sys.argv[1]), Path(sys.argv[2]))
