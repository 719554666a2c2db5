"""Half precision: weights stay float32, fp16 scales its losses, per-sample norms see through the scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.config import TrialConfig
from trainables.epoch import Hooks, Progress, accumulate_gradient, train_epoch
from trainables.facts import facts_of
from trainables.loop import Report, train
from trainables.session import Session, build_session
from trainables.totals import Totals

Make = Callable[..., TrialConfig]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def one_gradient(session: Session) -> list[torch.Tensor]:
    chunks = torch.arange(40).tensor_split(session.micro_batches)
    read = session.splits.train.batches(chunks)
    accumulate_gradient(session, 1, chunks, read, Totals(session.device), lambda: None)
    return [parameter.grad for parameter in session.model.parameters() if parameter.grad is not None]


def flat(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def assert_parallel(one: torch.Tensor, other: torch.Tensor, ratio: float) -> None:
    assert float(one @ other / (one.norm() * other.norm())) == pytest.approx(1, abs=0.02)
    assert float(one.norm() / other.norm()) == pytest.approx(ratio, rel=0.05)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("arm", ["sgd", "clars"])
def test_trains_near_float32(make_config: Make, precision: str, arm: str) -> None:
    def last(precision: str) -> Report:
        reports: list[Report] = []
        outcome = train(make_config(arm, precision=precision, augmentation="none"), reports.append)
        assert outcome.status == "complete"
        return reports[-1]

    half, single = last(precision), last("float32")
    assert half["train/loss"] == pytest.approx(single["train/loss"], rel=0.1)
    assert half["train/loss"] != single["train/loss"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_weights_and_gradients_are_float32(make_config: Make, precision: str) -> None:
    session = build_session(make_config("lars", precision=precision))
    assert {parameter.dtype for parameter in session.model.parameters()} == {torch.float32}
    assert {gradient.dtype for gradient in one_gradient(session)} == {torch.float32}
    assert facts_of(session)["precision"] == precision


def test_fp16_scales_losses_and_steps_with_what_they_were(make_config: Make) -> None:
    scaled, plain = (build_session(make_config("sgd", precision=name)) for name in ("fp16", "float32"))
    factor = scaled.scaler.get_scale()
    assert factor > 100
    # cosine of all gradients: the direction is the same, the length the scale's
    gradients = [flat(one_gradient(session)) for session in (scaled, plain)]
    assert_parallel(*gradients, ratio=factor)
    before = flat(scaled.model.parameters())
    for session in (scaled, plain):
        session.arm.prepare_step(0)
        session.scaler.step(session.arm.optimizer)
        session.scaler.update()
    assert_parallel(flat(scaled.model.parameters()) - before, flat(plain.model.parameters()) - before, ratio=1.0)


def test_per_sample_norms_see_through_the_scale(make_config: Make) -> None:
    means = []
    for precision in ("fp16", "float32"):
        session = build_session(make_config("clars", precision=precision, augmentation="none"))
        one_gradient(session)
        assert session.arm.sample_norms is not None
        means.append(session.arm.sample_norms.mean_norms().means.float())
        session.close()
    torch.testing.assert_close(*means, rtol=0.05, atol=1e-4)


def test_an_overflow_skips_the_step_and_halves_the_scale(make_config: Make) -> None:
    session = build_session(make_config("sgd", precision="fp16", batch_size=120, micro_batch_size=120))
    session.scaler.load_state_dict({**session.scaler.state_dict(), "scale": 2.0**40})
    before = [parameter.detach().clone() for parameter in session.model.parameters()]
    train_epoch(session, 1, Progress(), Hooks())
    assert all(torch.equal(a, b) for a, b in zip(before, session.model.parameters(), strict=True))
    assert session.scaler.get_scale() == 2.0**39


def test_fp16_resumes_with_its_scale(
    make_config: Make, tmp_path: Path, final_state: Callable[[Path], dict[str, Any]], assert_same: Callable[..., None]
) -> None:
    config = make_config("lars_warmup", precision="fp16")
    train(config, lambda report: None, checkpoint_dir=tmp_path / "whole")
    seen: list[Report] = []
    train(config, seen.append, checkpoint_dir=tmp_path / "cut", should_stop=lambda: len(seen) >= 2)
    train(config, seen.append, checkpoint_dir=tmp_path / "cut")
    assert_same(final_state(tmp_path / "cut"), final_state(tmp_path / "whole"))
    assert math.isfinite(final_state(tmp_path / "cut")["state"]["scaler"]["scale"])


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_trains_on_a_gpu(make_config: Make, precision: str, compiled: bool) -> None:
    reports: list[Report] = []
    facts: list[Any] = []
    config = make_config("lars_warmup", precision=precision, compile=compiled, device="cuda")
    assert train(config, reports.append, learn=facts.append).status == "complete"
    assert facts[0]["compiled"] == str(compiled).lower()
    assert reports[-1]["images_per_second"] > 0
    if "peak_flops" in facts[0]:
        assert 0 < reports[-1]["mfu"] < 1
