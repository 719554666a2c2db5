"""Curvature, sharpness and noise of a tiny network against the whole Hessian and against one sample at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables import models
from trainables.augment import AUGMENTATIONS, Augmentation
from trainables.config import ConfigError, DataConfig, DiagnosticsConfig, TrialConfig
from trainables.diagnostics import samples
from trainables.diagnostics.samples import FixedSamples, _of_the_first
from trainables.isolation import isolated
from trainables.memory import MemoryAdviceError
from trainables.session import Session, build_session
from trainables.workers import Workers

Make = Callable[..., TrialConfig]
CURVATURE = {"curvature/largest", "curvature/smallest", "curvature/residual"}
ITEMS = 40  # of which the training split has 24


def tiny(in_channels: int, classes: int, image_size: int) -> nn.Module:
    """27 parameters and a smooth loss that is not convex."""
    del image_size
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return nn.Sequential(pooled, nn.Linear(4 * in_channels, 3), nn.Tanh(), nn.Linear(3, classes, bias=False))


@pytest.fixture
def session_of(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """From diagnostics and changes of the config to a session, as a context."""
    monkeypatch.setitem(models.MODELS, "tiny", tiny)
    monkeypatch.setitem(AUGMENTATIONS, "two", lambda size: Augmentation("two", 1, (_brighter, _brighter)))

    @contextmanager
    def build(diagnostics: dict[str, Any], **changes: Any) -> Iterator[Session]:
        fields: dict[str, Any] = {
            "model": "tiny",
            "data": DataConfig("synthetic", options={"items": ITEMS, "noise": 1.0}),
            "batch_size": 12,
            "micro_batch_size": 12,
            "label_smoothing": 0.1,
        }
        config = make_config(diagnostics=DiagnosticsConfig(**diagnostics), **{**fields, **changes})
        with isolated(torch.device("cpu")), closing(build_session(config)) as session:
            yield session

    return build


def _brighter(images: Tensor, uniforms: Tensor, peak: float) -> Tensor:
    return (images.float() / peak + uniforms[:, :1, None, None]).clamp(max=1.0)


def measured(session: Session) -> dict[str, float]:
    return FixedSamples(session).measure(1, False, lambda: None)


def loss_of(session: Session) -> tuple[Callable[..., Tensor], Tensor]:
    """The loss in float64 of the tiny network's parameters in one vector and of some samples; and the vector."""
    train = session.splits.train
    ((raw, labels),) = train.batches([torch.arange(len(train))])
    images = session.splits.normalisation(raw).double()
    channels = images.shape[1]

    def loss(vector: Tensor, samples: slice = slice(None)) -> Tensor:
        first, bias, last = vector.split([12 * channels, 3, 12])
        pooled = F.adaptive_avg_pool2d(images[samples], 2).flatten(1)
        hidden = torch.tanh(pooled @ first.view(3, -1).T + bias)
        return F.cross_entropy(hidden @ last.view(4, 3).T, labels[samples], label_smoothing=0.1)

    vector = torch.cat([parameter.detach().double().reshape(-1) for parameter in session.model.parameters()])
    return loss, vector


def gradient_of(loss: Callable[..., Tensor], vector: Tensor, *samples: slice) -> npt.NDArray[np.float64]:
    place = vector.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(place, *samples), place)
    return gradient.numpy()


def test_curvature_is_that_of_the_whole_hessian(session_of: Callable[..., Any]) -> None:
    with session_of({"curvature": 1, "items": ITEMS, "curvature_products": 27}) as session:
        loss, vector = loss_of(session)
        hessian = torch.autograd.functional.hessian(loss, vector)
        values = np.linalg.eigvalsh(hessian.numpy())
        found = measured(session)
    assert values[0] < -1e-3 < 0.1 < values[-1]
    assert found["curvature/largest"] == pytest.approx(values[-1], rel=1e-4)
    assert found["curvature/smallest"] == pytest.approx(values[0], rel=1e-2)
    assert 0 <= found["curvature/residual"] < 1e-2 * values[-1]


def test_sharpness_is_the_loss_one_step_up(session_of: Callable[..., Any]) -> None:
    with session_of({"sam_sharpness": 1, "items": ITEMS, "rho": 0.3}) as session:
        loss, vector = loss_of(session)
        gradient = torch.from_numpy(gradient_of(loss, vector))
        expected = float(loss(vector + 0.3 * gradient / gradient.norm()) - loss(vector))
        assert measured(session) == {"curvature/sam_sharpness": pytest.approx(expected, rel=1e-4)}


def test_noise_is_the_variance_of_single_gradients(session_of: Callable[..., Any]) -> None:
    with session_of({"noise_scale": 1, "items": 24, "noise_batches": 24}) as session:
        with torch.no_grad():  # all samples are taken for the first class: more signal than noise
            session.model[1].bias.fill_(2.0)
            session.model[3].weight[0] = 2.0
        loss, vector = loss_of(session)
        gradients = np.stack([gradient_of(loss, vector, slice(item, item + 1)) for item in range(24)])
        found = measured(session)
    trace = float(gradients.var(axis=0, ddof=1).sum())
    squared = float(np.square(gradients.mean(axis=0)).sum()) - trace / 24
    assert found == pytest.approx(
        {
            "noise/variance": trace,
            "noise/batch_variance": trace / 12,
            "noise/gradient_squared": squared,
            "noise/scale": trace / squared,
        },
        rel=1e-4,
    )


def test_a_negative_squared_gradient_has_no_noise_scale(session_of: Callable[..., Any]) -> None:
    with session_of({"noise_scale": 1, "items": 24, "noise_batches": 24}) as session:
        fixed = FixedSamples(session)
        session.model.zero_grad()
        optimizer = torch.optim.Adam(session.model.parameters(), lr=0.03)
        for _ in range(400):  # to where the gradient is all noise
            optimizer.zero_grad()
            torch.autograd.backward(fixed._loss(session.model, fixed._batch()))
            optimizer.step()
        found = fixed.measure(1, False, lambda: None)
    assert found["noise/gradient_squared"] < 0
    assert set(found) == {"noise/variance", "noise/batch_variance", "noise/gradient_squared"}


def test_trials_on_one_split_see_the_same_samples(session_of: Callable[..., Any]) -> None:
    def places(seed: int, split_seed: int) -> list[int]:
        data = DataConfig("synthetic", options={"items": ITEMS}, split_seed=split_seed)
        with session_of({"curvature": 1, "items": 10}, seed=seed, data=data) as session:
            return FixedSamples(session)._places.tolist()

    assert len(set(places(1, 0))) == 10
    assert places(1, 0) == places(2, 0)
    assert places(1, 0) != places(1, 1)


def test_batch_norms_mode_counts(session_of: Callable[..., Any]) -> None:
    def largest(mode: str) -> float:
        with session_of({"curvature": 1, "items": 16, "batchnorm": mode}, model="resnet8") as session:
            return measured(session)["curvature/largest"]

    assert not np.isclose(largest("train"), largest("eval"), rtol=0.1)


def test_synchronised_batch_norm_measures_as_the_plain_one(
    session_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for other workers, and it cannot be differentiated twice."""
    monkeypatch.setattr(nn.SyncBatchNorm, "forward", None)
    everything = {"curvature": 1, "sam_sharpness": 1, "noise_scale": 1, "items": 16, "noise_batches": 2}
    with session_of(everything, model="resnet8") as session:
        expected = measured(session)
        nn.SyncBatchNorm.convert_sync_batchnorm(session.model)
        assert any(isinstance(module, nn.SyncBatchNorm) for module in session.model.modules())
        assert measured(session) == expected
        assert any(isinstance(module, nn.SyncBatchNorm) for module in session.model.modules())


def test_two_views_are_the_same_each_time(session_of: Callable[..., Any]) -> None:
    twins = {"task": "barlow_twins", "task_options": {"projector": "6"}, "augmentation": "two", "label_smoothing": 0.0}
    measures = {"curvature": 1, "sam_sharpness": 1, "items": 16}
    with session_of(measures, **twins) as session:
        fixed = FixedSamples(session)
        first, second = fixed._batch().views
        assert not torch.equal(first, second)
        found = fixed.measure(1, False, lambda: None)
        assert set(found) == {
            "curvature/largest",
            "curvature/smallest",
            "curvature/residual",
            "curvature/sam_sharpness",
        }
        assert measured(session) == found
    with (
        session_of({"noise_scale": 1}, **twins) as session,
        pytest.raises(ConfigError, match=r"noise_scale needs a loss that is a mean .* barlow_twins couples"),
    ):
        FixedSamples(session)


def test_too_few_samples_for_the_batches_of_noise(session_of: Callable[..., Any]) -> None:
    with (
        session_of({"noise_scale": 1, "noise_batches": 25}) as session,
        pytest.raises(ConfigError, match=r"noise_batches <= training items must hold.*training items=24"),
    ):
        FixedSamples(session)


def test_a_loss_that_is_not_finite_has_no_figures(session_of: Callable[..., Any]) -> None:
    with session_of({"curvature": 1, "sam_sharpness": 1, "noise_scale": 1, "items": 16}) as session:
        with torch.no_grad():
            next(iter(session.model.parameters())).fill_(torch.nan)
        assert measured(session) == {}


def test_a_full_memory_says_what_to_lower(session_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate much\nand more")

    monkeypatch.setattr(samples, "hessian_ends", full)
    with (
        session_of({"curvature": 1, "items": 8}) as session,
        pytest.raises(
            MemoryAdviceError,
            match=r"curvature on 8 samples .* cpu device \(tried to .* much\): lower diagnostics.items",
        ),
    ):
        measured(session)


def test_only_what_is_due_is_measured_and_polled_for(session_of: Callable[..., Any]) -> None:
    polls: list[None] = []
    with session_of({"curvature": 2, "sam_sharpness": 3, "items": 8}) as session:
        fixed = FixedSamples(session)

        def sections(epoch: int) -> tuple[set[str], int]:
            polls.clear()
            return set(fixed.measure(epoch, epoch == 7, lambda: polls.append(None))), len(polls)

        sam = {"curvature/sam_sharpness"}
        assert [sections(epoch) for epoch in (1, 2, 3, 6, 7)] == [
            (set(), 0),
            (CURVATURE, 1),
            (sam, 1),
            (CURVATURE | sam, 2),
            (CURVATURE | sam, 2),
        ]


def test_the_first_workers_figures_are_everybodys() -> None:
    class Told(Workers):
        """A worker that finds in a sum what the others put in."""

        def sum(self, tensor: Tensor) -> Tensor:
            return tensor + torch.tensor([3.0, 4.0], dtype=torch.float64)

    found = {"a": 1.0, "b": float("nan")}
    assert _of_the_first(found, Told(rank=1, size=2)) == {"a": 3.0, "b": 4.0}
    assert _of_the_first({}, Told(rank=1, size=2)) == {}
