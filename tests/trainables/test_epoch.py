"""The gradient of a step is the gradient of the whole batch's mean loss, however it is cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from optim.registry import build_arm
from trainables.config import TrialConfig
from trainables.data.splits import ResidentSplit
from trainables.epoch import Hooks, Progress, accumulate_gradient, require_finite_losses, train_epoch
from trainables.isolation import generator
from trainables.measure import DivergedError, evaluate
from trainables.session import Session, build_session
from trainables.tasks import Classification, TaskFacts
from trainables.totals import Totals
from trainables.workers import Workers

Make = Callable[..., TrialConfig]
CPU = torch.device("cpu")


HOOKS = Hooks()


@dataclasses.dataclass(frozen=True)
class InDouble:
    """The normalisation of the set, in float64."""

    inner: Callable[[torch.Tensor], torch.Tensor]
    peak: float

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self.inner(images).double()


def gradient(session: Session, batch: torch.Tensor, totals: Totals) -> torch.Tensor:
    """As `train_epoch` calls it in epoch 2."""
    chunks = batch.tensor_split(session.micro_batches)
    return accumulate_gradient(session, 2, chunks, session.splits.train.batches(chunks), totals, HOOKS.poll)


def inputs(session: Session, places: torch.Tensor, epoch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """What the model sees of these samples, by another way: one view of all images at once."""
    train = session.splits.train
    assert isinstance(train, ResidentSplit)
    return session.views(train.images[places], places, epoch)[0], train.labels[places]


def double_session(config: TrialConfig) -> Session:
    """A session whose model has no BatchNorm and computes in float64."""
    session = build_session(config)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 4)
    ).double()
    normalisation = InDouble(session.splits.normalisation, session.splits.normalisation.peak)
    splits = dataclasses.replace(session.splits, normalisation=normalisation)  # type: ignore[arg-type]
    arm = build_arm(
        config.arm,
        model.named_parameters(),
        lr=0.1,
        steps_per_epoch=session.steps_per_epoch,
        total_steps=session.total_steps,
        model=model,
        hyperparameters={"momentum": 0.0, "nesterov": False},
    )
    return dataclasses.replace(session, model=model, network=model, arm=arm, splits=splits)


@pytest.mark.parametrize("micro", [1, 7, 20, 33, 40])
def test_gradient_equals_one_shot(make_config: Make, micro: int) -> None:
    session = double_session(make_config("sgd", micro_batch_size=micro))
    batch = torch.randperm(120, generator=torch.Generator().manual_seed(1))[:40]
    for parameter in session.model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)  # left over from another step
    totals = Totals(CPU)
    loss = gradient(session, batch, totals)
    images, labels = inputs(session, batch)
    expected_loss = F.cross_entropy(session.model(images), labels)
    expected = torch.autograd.grad(expected_loss, list(session.model.parameters()))
    assert float(loss) == pytest.approx(expected_loss.item(), rel=1e-6)
    assert totals.read()[0] == pytest.approx(expected_loss.item(), rel=1e-12)
    assert totals.items == 40
    for parameter, wanted in zip(session.model.parameters(), expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("micro", [1, 7, 20, 40])
def test_norms_of_samples_equal_one_shot(make_config: Make, micro: int) -> None:
    """Against the samples' gradients taken one by one."""
    session = double_session(make_config("clars", micro_batch_size=micro))
    batch = torch.randperm(120, generator=torch.Generator().manual_seed(1))[:40]
    images, labels = inputs(session, batch)
    weights = [session.model[0].weight, session.model[4].weight]  # type: ignore[index]
    session.model.eval()  # not recorded, and with GroupNorm the same
    norms = torch.zeros(2, dtype=torch.float64)
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        loss = F.cross_entropy(session.model(image), label)
        norms += torch.stack([gradient.norm() for gradient in torch.autograd.grad(loss, weights)]) / len(batch)
    session.model.train()
    gradient(session, batch, Totals(CPU))
    evaluate(session, "validation", HOOKS.poll)
    assert session.arm.sample_norms is not None
    found = session.arm.sample_norms.mean_norms()
    assert found.names == ("0.weight", "4.weight")
    torch.testing.assert_close(found.means, norms, rtol=1e-12, atol=0)


def test_errors_of_estimated_norms_are_those_of_this_epoch(make_config: Make) -> None:
    knobs = {**make_config("clars").hyperparameters, "sample_norms": "subset", "norm_samples": 5}
    session, progress = build_session(make_config("clars", hyperparameters=knobs)), Progress()
    assert progress.norm_standard_error is None
    for epoch in (1, 2):
        train_epoch(session, epoch, progress, HOOKS)
        assert len(progress.norm_errors) == 3
        assert progress.norm_standard_error == pytest.approx(sum(map(float, progress.norm_errors)) / 3, rel=1e-6)
    progress.norm_errors[1] = torch.tensor(torch.inf)
    assert progress.norm_standard_error is None


def test_each_image_once_an_epoch_in_an_order_of_its_own(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    session = double_session(make_config("sgd", batch_size=60, augmentation="none"))
    seen: list[torch.Tensor] = []
    batches = ResidentSplit.batches

    def record(split: ResidentSplit, chunks: Iterable[torch.Tensor]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        chunks = list(chunks)
        seen.extend(chunks)
        return batches(split, chunks)

    monkeypatch.setattr(ResidentSplit, "batches", record)
    orders = []
    for epoch in (1, 2, 1):
        seen.clear()
        train_epoch(session, epoch, Progress(), HOOKS)
        orders.append(torch.cat(seen))
        assert torch.equal(orders[-1].sort().values, torch.arange(120))
    assert not torch.equal(orders[0], orders[1])
    assert torch.equal(orders[0], orders[2])


def test_augmentation_is_drawn_anew_each_epoch(make_config: Make) -> None:
    session = double_session(make_config("sgd"))
    places = torch.arange(120)
    first, second, again = (inputs(session, places, epoch)[0] for epoch in (1, 2, 1))
    assert not torch.equal(first, second)
    assert torch.equal(first, again)
    # what happens to a sample does not depend on the batch that it stands in
    assert torch.equal(inputs(session, places[70:75], 1)[0], first[70:75])


def test_steps_are_plain_gradient_descent(make_config: Make) -> None:
    """Two epochs of SGD without momentum against a hand-written loop over the same order."""
    config = make_config("sgd", augmentation="none", epochs=1000)
    session, twin = double_session(config), double_session(config)
    orders: list[torch.Tensor] = []
    for epoch in (1, 2):
        progress = Progress()
        train_epoch(session, epoch, progress, HOOKS)
        assert (progress.step, progress.images) == (3 * epoch, 120)
        assert all(parameter.grad is None for parameter in session.model.parameters())
        orders.append(torch.randperm(120, generator=generator(config.seed, "order", epoch)))
    step = 0
    for order in orders:
        for batch in order.view(3, 40):
            images, labels = inputs(twin, batch)
            loss = F.cross_entropy(twin.model(images), labels)
            gradients = torch.autograd.grad(loss, list(twin.model.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(twin.model.parameters(), gradients, strict=True):
                    parameter -= twin.arm.lr_effective(step) * gradient
            step += 1
    for ours, theirs in zip(session.model.parameters(), twin.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_divergence_names_the_step_and_stops_before_it(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    session = build_session(make_config(augmentation="none"))
    task = session.task

    class Poisoned(Classification):
        def loss(
            self, model: nn.Module, views: Sequence[torch.Tensor], labels: torch.Tensor
        ) -> dict[str, torch.Tensor]:
            measured = task.loss(model, views, labels)
            hit = (views[0].flatten(1) == poison).all(dim=1).any()
            return {**measured, "loss": torch.where(hit, torch.nan, measured["loss"])}

    poison = inputs(session, torch.tensor([17]))[0].flatten()  # one image poisons the step that it falls in
    session = dataclasses.replace(session, task=Poisoned(TaskFacts(4)))
    progress = Progress()
    with pytest.raises(DivergedError, match="train/loss is nan"):
        train_epoch(session, 2, progress, HOOKS)
    order = torch.randperm(120, generator=generator(session.config.seed, "order", 2))
    assert progress.step == 3 + int((order == 17).nonzero()) // 40


def test_a_late_look_names_the_same_step() -> None:
    progress = Progress(step=20)
    require_finite_losses(torch.tensor([1.0, 2.0]), 10, progress)
    assert progress.step == 20
    with pytest.raises(DivergedError, match="train/loss is inf"):
        require_finite_losses(torch.tensor([1.0, torch.inf, torch.nan]), 10, progress)
    assert progress.step == 11


def test_what_a_model_draws_differs_from_worker_to_worker(
    make_config: Make, write_module: Callable[[str], str]
) -> None:
    module = write_module(
        "from torch import nn\n"
        "def net(channels, classes, size):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(channels * size**2, classes))\n"
    )

    def loss(rank: int) -> float:
        session = build_session(make_config("sgd", model=f"{module}:net"))
        # the same share of the data: nothing but the masks can differ
        return train_epoch(dataclasses.replace(session, workers=Workers(rank)), 1, Progress(), HOOKS).read()[0]

    assert loss(0) == loss(0)
    assert loss(0) != loss(1)
