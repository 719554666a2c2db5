"""Arms of CLARS in the loop: what is recorded about their per-sample norms, and that nothing of them stays behind."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from trainables import facts, loop
from trainables.config import DataConfig, TrialConfig
from trainables.epoch import Hooks, Progress, train_epoch
from trainables.facts import describe
from trainables.loop import Report, train
from trainables.measure import evaluate
from trainables.models import MODELS
from trainables.session import Session, build_session

Make = Callable[..., TrialConfig]
ERROR = "clars/norm_standard_error"


@pytest.fixture
def clars(make_config: Make) -> Make:
    """A CLARS trial with knobs of its norms."""

    def make(arm: str = "clars", changes: dict[str, Any] | None = None, **knobs: Any) -> TrialConfig:
        return make_config(arm, hyperparameters={**make_config(arm).hyperparameters, **knobs}, **(changes or {}))

    return make


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """Those that the loop builds."""
    built: list[Session] = []

    def build(config: TrialConfig, **options: Any) -> Session:
        built.append(build_session(config, **options))
        return built[-1]

    for module in (loop, facts):
        monkeypatch.setattr(module, "build_session", build)
    return built


def hooks_on(model: nn.Module) -> int:
    modules = sum(len(module._forward_hooks) for module in model.modules())
    return modules + sum(len(p._post_accumulate_grad_hooks or ()) for p in model.parameters())


def run(config: TrialConfig) -> tuple[loop.Outcome, list[Report]]:
    reports: list[Report] = []
    return train(config, reports.append), reports


def test_facts_tell_the_mode(make_config: Make, clars: Make) -> None:
    def told(config: TrialConfig) -> dict[str, float | int | str]:
        return {name: value for name, value in describe(config).items() if name in ("sample_norms", "norm_samples")}

    assert told(clars()) == {"sample_norms": "exact"}
    assert told(clars("clars_warmup", sample_norms="exact", norm_samples=4)) == {"sample_norms": "exact"}
    assert told(clars(sample_norms="micro_batch")) == {"sample_norms": "micro_batch"}
    assert told(clars(sample_norms="subset")) == {"sample_norms": "subset", "norm_samples": 16}
    assert told(clars(sample_norms="subset", norm_samples=4)) == {"sample_norms": "subset", "norm_samples": 4}
    assert told(make_config("lars_warmup")) == {}


def test_the_standard_error_is_reported_where_norms_are_estimates(clars: Make) -> None:
    errors = {}
    for size in (2, 8, 20):
        _, reports = run(clars(sample_norms="subset", norm_samples=size))
        assert all(type(report[ERROR]) is float and math.isfinite(report[ERROR]) for report in reports)
        errors[size] = reports[0][ERROR]
    assert errors[2] > 1.5 * errors[8] > 0
    assert errors[20] == 0  # every sample of a micro-batch
    for mode in ("exact", "micro_batch"):
        assert all(ERROR not in report for report in run(clars(sample_norms=mode))[1])


def test_the_standard_error_is_the_mean_over_layers_and_steps(
    clars: Make, sessions: list[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []

    def build(config: TrialConfig) -> Session:
        session = build_session(config)
        norms = session.arm.sample_norms
        assert norms is not None

        def after(*_: object) -> None:
            assert norms.latest is not None
            pairs = norms.latest.to_dict().values()
            assert len(pairs) == 10  # the convolutions and the head of resnet8
            seen.append(sum(error / mean for mean, error in pairs) / len(pairs))

        session.arm.optimizer.register_step_post_hook(after)
        return session

    monkeypatch.setattr(loop, "build_session", build)
    _, reports = run(clars(sample_norms="subset", norm_samples=5))
    assert len(seen) == 4 * 3
    for epoch, report in enumerate(reports):
        assert report[ERROR] == pytest.approx(sum(seen[3 * epoch : 3 * epoch + 3]) / 3, rel=1e-5)


def test_the_mode_changes_the_steps(clars: Make) -> None:
    losses = {
        mode: run(clars(sample_norms=mode))[0].report["train/loss"] for mode in ("exact", "subset", "micro_batch")
    }
    assert len(set(losses.values())) == 3
    # all samples of every micro-batch: exact but for the order of sums
    whole = run(clars(sample_norms="subset", norm_samples=20))[0].report["train/loss"]
    assert whole == pytest.approx(losses["exact"], rel=1e-4)


def test_at_one_lr_every_layer_moves_less_far_than_with_lars(make_config: Make) -> None:
    moved = {}
    for arm in ("clars", "lars"):
        knobs = make_config("lars").hyperparameters
        session = build_session(make_config(arm, hyperparameters=knobs, batch_size=120, micro_batch_size=120))
        before = [weight.detach().clone() for weight in session.model.parameters() if weight.ndim > 1]
        train_epoch(session, 1, Progress(), Hooks())
        after = [weight.detach() for weight in session.model.parameters() if weight.ndim > 1]
        moved[arm] = [float((b - a).norm()) for a, b in zip(before, after, strict=True)]
        session.close()
    assert all(short < 0.9 * long for short, long in zip(moved["clars"], moved["lars"], strict=True))


def test_evaluation_is_not_recorded(clars: Make) -> None:
    session = build_session(clars())
    norms = session.arm.sample_norms
    assert norms is not None
    evaluate(session, "validation", lambda: None)
    with pytest.raises(RuntimeError, match=r"need a backward pass .* but there was none"):
        norms.mean_norms()


@pytest.mark.parametrize("mode", ["exact", "subset", "micro_batch"])
def test_divergence_gives_finite_figures(clars: Make, sessions: list[Session], mode: str) -> None:
    outcome, reports = run(clars(changes={"one_d_lr": "raw"}, base_lr=1e38, sample_norms=mode))
    assert outcome.status == "diverged"
    assert all(math.isfinite(value) for report in reports for value in report.values())
    assert [hooks_on(session.model) for session in sessions] == [0]


def test_nothing_stays_on_the_model(clars: Make, sessions: list[Session]) -> None:
    def crash(report: Report) -> None:
        assert hooks_on(sessions[-1].model) > 0
        raise RuntimeError("planted")

    config = clars()
    assert run(config)[0].status == "complete"
    assert train(config, lambda report: None, should_stop=lambda: True).status == "stopped"
    with pytest.raises(RuntimeError, match="planted"):
        train(config, crash)
    describe(config)
    assert [hooks_on(session.model) for session in sessions] == [0] * 4


def test_a_layer_without_per_sample_norms_is_refused_by_name(clars: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def transposed(in_channels: int, classes: int, image_size: int) -> nn.Module:
        return nn.Sequential(nn.ConvTranspose2d(in_channels, classes, image_size), nn.Flatten())

    monkeypatch.setitem(MODELS, "transposed", transposed)
    with pytest.raises(ValueError, match=r"0\.weight of shape .* in ConvTranspose2d"):
        run(clars(changes={"model": "transposed"}))


def test_bf16(clars: Make) -> None:
    outcome, reports = run(clars(changes={"precision": "bf16"}, sample_norms="subset"))
    assert outcome.status == "complete"
    assert 0 < reports[-1][ERROR] < 1


def test_learns_digits(clars: Make) -> None:
    changes = {
        "data": DataConfig("digits"),
        "epochs": 20,
        "batch_size": 1077,
        "micro_batch_size": 1077,
        "augmentation": "none",
    }
    _, reports = run(clars("clars_warmup", changes, base_lr=5.0, warmup_epochs=3.0))
    assert reports[-1]["val/accuracy"] > 0.7
    assert reports[-1]["train/loss"] < 0.7 * reports[0]["train/loss"]


def test_draws_follow_the_seed_of_the_trial(clars: Make) -> None:
    """Two draws of samples, over the same weights and order of images."""
    found = []
    for seed in (3, 3, 4):
        session = build_session(clars(sample_norms="subset", norm_samples=5, changes={"seed": seed}))
        assert session.arm.sample_norms is not None
        found.append(session.arm.sample_norms.state_dict()["generator"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
