"""Two passes against one, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from optim import PerSampleNorms
from trainables.tasks import TaskFacts
from trainables.tasks.barlow_twins import BarlowTwins, TwinNetwork
from trainables.tasks.coupled import coupled_gradient
from trainables.workers import Workers

SAMPLES, WIDTH = 12, 6
TASK = BarlowTwins(TaskFacts(classes=3, options={"projector": "7-5"}))
MicroBatches = Sequence[Callable[[], Sequence[Tensor]]]


def make_model(*extra: nn.Module, norm: bool = False) -> TwinNetwork:
    torch.manual_seed(0)
    widths = (7, 5) if norm else (5,)
    return TwinNetwork(nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), *extra), 8, widths).double()


def views() -> tuple[Tensor, Tensor]:
    first, noise = torch.randn(2, SAMPLES, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return first, first + 0.3 * noise


def cut(*places: int) -> MicroBatches:
    """Micro-batches that end at these places."""
    one, other = views()
    return [lambda a=a, b=b: (one[a:b], other[a:b]) for a, b in pairwise((0, *places))]


def gradients(model: nn.Module) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters()]


def run(model: nn.Module, micro_batches: MicroBatches, **changes: Any) -> Tensor:
    return coupled_gradient(TASK, model, micro_batches, Workers(), nullcontext, **changes)["loss"]


@pytest.mark.parametrize("places", [(6, 12), (5, 9, 12), (2, 12)])
def test_two_passes_are_one_where_nothing_but_the_loss_couples(places: tuple[int, ...]) -> None:
    model, twin = make_model(), make_model()
    loss, expected = run(twin, cut(*places)), run(model, cut(SAMPLES))
    assert not loss.requires_grad
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradients(twin), gradients(model), rtol=1e-10, atol=1e-13)


def test_gradient_is_added_and_scaled() -> None:
    model, twin = make_model(), make_model()
    run(model, cut(SAMPLES))
    run(twin, cut(SAMPLES), scale=lambda loss: 3 * loss)
    run(twin, cut(6, 12), scale=lambda loss: 5 * loss)
    torch.testing.assert_close(gradients(twin), [8 * one for one in gradients(model)], rtol=1e-10, atol=1e-13)


def test_batchnorm_sees_micro_batches_and_keeps_its_count() -> None:
    """The same as one graph over all micro-batches; running statistics move once for each."""
    model = make_model(nn.BatchNorm1d(8), norm=True)
    with torch.no_grad():  # statistics that are not those of a fresh layer
        TASK.embed(model, views())
    twin = copy.deepcopy(model)
    micro_batches = cut(4, 8, 12)
    embeddings = torch.cat([TASK.embed(model, one()) for one in micro_batches])
    expected = TASK.embedding_loss(embeddings, Workers())["loss"]
    expected.backward()
    loss = run(twin, micro_batches)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradients(twin), gradients(model), rtol=1e-9, atol=1e-12)
    assert dict(twin.named_buffers()).keys() >= {"backbone.2.running_mean", "backbone.2.num_batches_tracked"}
    for (name, found), buffer in zip(twin.named_buffers(), model.buffers(), strict=True):
        assert torch.equal(found, buffer), name


def test_dropout_repeats_itself() -> None:
    """The random numbers of both passes are those that one pass draws, and what follows goes on from there."""
    model, twin = make_model(nn.Dropout(0.4)), make_model(nn.Dropout(0.4))
    micro_batches = cut(4, 8, 12)
    torch.manual_seed(5)
    embeddings = torch.cat([TASK.embed(model, one()) for one in micro_batches])
    TASK.embedding_loss(embeddings, Workers())["loss"].backward()
    after = torch.rand(3)
    torch.manual_seed(5)
    run(twin, micro_batches)
    torch.testing.assert_close(gradients(twin), gradients(model), rtol=1e-10, atol=1e-13)
    assert torch.equal(torch.rand(3), after)


def test_sample_norms_count_the_second_pass_only() -> None:
    """A sample is its two views together; the norms are those of one undivided pass."""
    found = []
    for micro_batches in (cut(SAMPLES), cut(5, 12)):
        model = make_model()
        with PerSampleNorms(model) as norms:
            run(model, micro_batches)
            found.append(norms.mean_norms().means)
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=0)
    model = make_model()
    leaf = TASK.embed(model, views()).detach().requires_grad_()
    TASK.embedding_loss(leaf, Workers())["loss"].backward()
    with torch.no_grad():
        inputs = [model.backbone(view) for view in views()]
    terms = [sum(torch.outer(leaf.grad[i, view], inputs[view][i]) for view in range(2)).norm() for i in range(SAMPLES)]
    torch.testing.assert_close(found[0][-1], torch.stack(terms).sum(), rtol=1e-10, atol=0)


def test_under_autocast() -> None:
    """The first pass leaves no weights without a graph behind for the second."""
    model, twin = make_model().float(), make_model().float()
    to_float = [lambda one=one: [view.float() for view in one()] for one in cut(6, 12)]

    def autocast() -> torch.autocast:
        return torch.autocast("cpu", dtype=torch.bfloat16)

    with autocast():
        embeddings = torch.cat([TASK.embed(model, one()) for one in to_float])
    TASK.embedding_loss(embeddings, Workers())["loss"].backward()
    coupled_gradient(TASK, twin, to_float, Workers(), autocast)
    for found, expected in zip(gradients(twin), gradients(model), strict=True):
        assert found.norm() > 0
        torch.testing.assert_close(found, expected, rtol=2e-2, atol=1e-2 * float(expected.norm()))


def test_views_and_graphs_of_each_pass() -> None:
    """The views are made anew, and the first pass keeps no graph: memory is that of one micro-batch."""
    calls: list[int] = []
    graphs: list[bool] = []
    whole, model = cut(6, 12), make_model()

    def counted(index: int) -> Callable[[], Sequence[Tensor]]:
        return lambda: (calls.append(index), whole[index]())[1]

    model.projector.register_forward_pre_hook(lambda module, args: graphs.append(torch.is_grad_enabled()))
    run(model, [counted(0), counted(1)])
    assert calls == [0, 1, 0, 1]
    assert graphs == [False] * 4 + [True] * 4  # two views each
