"""The loop from outside: reports, outcomes, divergence, stopping, and what it leaves behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from trainables import loop
from trainables.config import ConfigError, DataConfig, TrialConfig
from trainables.data import load_data
from trainables.facts import describe
from trainables.loop import Report, train
from trainables.tasks import TASKS, Classification

Make = Callable[..., TrialConfig]
PLAIN = {"epoch", "lr_effective", "images_per_second", "epoch_seconds", "steps", "diverged"}
SCORES = {"train/loss", "train/accuracy", "val/loss", "val/accuracy"}
DIGITS_LARS = {
    "base_lr": 2.5,
    "weight_decay": 1e-4,
    "momentum": 0.9,
    "trust_coefficient": 1e-3,
    "warmup_epochs": 5.0,
}
TEST = {"test/loss", "test/accuracy", "test/correct", "test/items"}


def run(config: TrialConfig) -> tuple[loop.Outcome, list[Report]]:
    reports: list[Report] = []
    outcome = train(config, reports.append)
    return outcome, reports


def plant_task(monkeypatch: pytest.MonkeyPatch, poison: Callable[[nn.Module, int], float]) -> None:
    """Make the task add poison(model, call number) to its loss."""

    class Planted(Classification):
        calls = 0

        def loss(self, model: nn.Module, views: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
            return self._poisoned(model, super().loss(model, views, labels))

        def _measure(self, model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
            return self._poisoned(model, super()._measure(model, images, labels))

        def _poisoned(self, model: nn.Module, measured: dict[str, Tensor]) -> dict[str, Tensor]:
            self.calls += 1
            return {**measured, "loss": measured["loss"] + poison(model, self.calls)}

    monkeypatch.setitem(TASKS, "classification", Planted)


def test_reports(make_config: Make) -> None:
    outcome, reports = run(make_config("sgd_warmup"))
    assert (outcome.status, outcome.epochs, outcome.reason) == ("complete", 4, None)
    assert outcome.report == reports[-1]
    for epoch, report in enumerate(reports, start=1):
        assert set(report) == PLAIN | SCORES
        assert all(type(value) is float and math.isfinite(value) for value in report.values())
        assert (report["epoch"], report["steps"], report["diverged"]) == (epoch, 3 * epoch, 0)
        assert report["images_per_second"] > 0
        assert report["epoch_seconds"] >= 120 / report["images_per_second"]
    # base_lr 0.3 at batch 40: the warm-up's last step, then the cosine's end
    assert reports[0]["lr_effective"] == pytest.approx(0.3 * 40 / 256)
    assert reports[-1]["lr_effective"] < 0.1 * reports[0]["lr_effective"]


def test_phi_is_reported_where_the_arm_has_one(make_config: Make) -> None:
    _, reports = run(make_config("tvlars", epochs=2))
    for report in reports:
        decay = 1 / (2 * 3)  # decay_epochs 2, delay_epochs 1, 3 steps an epoch
        phi = 1 / (1 + math.exp(decay * (report["steps"] - 1 - 3))) + 1e-3
        assert report["phi"] == pytest.approx(phi)
        assert report["lr_effective"] == pytest.approx(20 * 40 / 256 * phi)


def test_the_test_split_is_read_once_at_the_end(make_config: Make) -> None:
    _, reports = run(make_config(evaluate_test=True))
    assert all(TEST.isdisjoint(report) for report in reports[:-1])
    assert set(reports[-1]) >= TEST
    assert reports[-1]["test/accuracy"] == reports[-1]["test/correct"] / reports[-1]["test/items"]
    assert reports[-1]["test/items"] == 40


def test_learns_digits(make_config: Make) -> None:
    config = make_config(
        "lars_warmup",
        data=DataConfig("digits"),
        epochs=20,
        batch_size=1077,
        micro_batch_size=1077,
        augmentation="none",
        hyperparameters=DIGITS_LARS,
    )
    _, reports = run(config)
    assert reports[-1]["val/accuracy"] > 0.7
    assert reports[-1]["train/loss"] < 0.7 * reports[0]["train/loss"]


@pytest.mark.parametrize("arm", ["sgd", "lars_warmup", "adamw", "clars"])
@pytest.mark.parametrize("evaluate_test", [False, True])
def test_a_huge_lr_diverges_in_finite_figures(make_config: Make, arm: str, evaluate_test: bool) -> None:
    base = make_config(arm).hyperparameters
    config = make_config(arm, hyperparameters={**base, "base_lr": 1e38}, evaluate_test=evaluate_test, one_d_lr="raw")
    outcome, reports = run(config)
    assert outcome.status == "diverged"
    assert outcome.reason is not None
    assert "is nan" in outcome.reason or "is inf" in outcome.reason or "not finite" in outcome.reason
    assert outcome.report == reports[-1]
    assert outcome.epochs == len(reports)
    last = reports[-1]
    assert set(last) == PLAIN | SCORES | (TEST if evaluate_test else set())
    assert all(math.isfinite(value) for value in last.values())
    assert (last["diverged"], last["val/accuracy"]) == (1.0, 0.25)
    assert last["val/loss"] == pytest.approx(math.log(4))
    if evaluate_test:
        assert (last["test/accuracy"], last["test/correct"], last["test/items"]) == (0.25, 10, 40)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_planted_training_loss_ends_the_trial_at_its_step(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    # an epoch measures 6 micro-batches and 2 chunks of validation: call 12 is step 4, the second of epoch 2
    plant_task(monkeypatch, lambda model, call: value if call == 12 else 0.0)
    outcome, reports = run(make_config())
    assert (outcome.status, outcome.epochs) == ("diverged", 2)
    assert outcome.reason == f"train/loss is {value} after 4 steps, in epoch 2"
    assert [report["diverged"] for report in reports] == [0, 1]
    assert reports[-1]["steps"] == 4
    assert reports[-1]["train/loss"] == pytest.approx(math.log(4))


def test_a_planted_validation_loss_keeps_the_training_figures(
    make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, sound = run(make_config())
    plant_task(monkeypatch, lambda model, call: 0.0 if model.training else math.inf)
    outcome, reports = run(make_config())
    assert outcome.reason == "val/loss is inf after 3 steps, in epoch 1"
    assert reports[0]["train/loss"] == sound[0]["train/loss"]
    assert (reports[0]["val/accuracy"], reports[0]["val/loss"]) == (0.25, pytest.approx(math.log(4)))


def test_a_parameter_that_leaves_the_numbers_is_noticed(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def poison(model: nn.Module, call: int) -> float:
        if call == 6:  # the last of the epoch: no loss sees it any more
            with torch.no_grad():
                model.head.bias.fill_(math.inf)  # type: ignore[union-attr, operator]
        return 0.0

    plant_task(monkeypatch, poison)
    outcome, _ = run(make_config("sgd", one_d_lr=1e-30))
    assert outcome.reason == "parameter head.bias is not finite after 3 steps, in epoch 1"


@pytest.mark.parametrize("raises", [False, True])
def test_leaves_threads_and_random_state_as_they_were(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, raises: bool
) -> None:
    inside: list[int] = []

    def poison(model: nn.Module, call: int) -> float:
        inside.append(torch.get_num_threads())
        return 0.0

    def report(values: Report) -> None:
        if raises:
            raise RuntimeError("planted")

    plant_task(monkeypatch, poison)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    try:
        torch.set_num_threads(2)
        if raises:
            with pytest.raises(RuntimeError, match="planted"):
                train(make_config(epochs=1), report)
        else:
            train(make_config(epochs=1), report)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert set(inside) == {1}
    assert torch.equal(torch.get_rng_state(), state)


def test_stops_when_asked(make_config: Make) -> None:
    reports: list[Report] = []
    outcome = train(make_config(), reports.append, should_stop=lambda: len(reports) == 2)
    assert (outcome.status, outcome.epochs) == ("stopped", 2)
    assert outcome.report == reports[-1]


def test_stops_between_steps(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "POLL_SECONDS", 0.0)
    asked: list[int] = []

    def at_the_third_question() -> bool:
        asked.append(1)
        return len(asked) == 3

    reports: list[Report] = []
    outcome = train(make_config(), reports.append, should_stop=at_the_third_question)
    assert (outcome.status, outcome.epochs, outcome.report, reports) == ("stopped", 0, {}, [])


def test_a_request_after_the_last_report_changes_nothing(make_config: Make) -> None:
    reports: list[Report] = []
    assert train(make_config(), reports.append, should_stop=lambda: len(reports) == 4).status == "complete"


def test_batch_larger_than_the_training_set_is_refused(make_config: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="training items=120"):
        train(make_config(batch_size=121), lambda report: None, checkpoint_dir=tmp_path / "trial")
    assert not (tmp_path / "trial").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 4},
        {"init": "xavier_uniform"},
        {"augmentation": "none"},
        {"label_smoothing": 0.2},
        {"lr_scaling": "none"},
        {"micro_batch_size": 10},
        {"precision": "bf16"},
        {"one_d_lr": 0.1},
        {"base_batch_size": 128},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_switch_changes_something(make_config: Make, changes: Mapping[str, object]) -> None:
    losses = [run(make_config(epochs=2, **some))[0].report["train/loss"] for some in ({}, changes)]
    assert losses[0] != losses[1]


def test_describe(make_config: Make) -> None:
    config = make_config("tvlars", micro_batch_size=17)
    facts = describe(config)
    lr, decay = 20 * 40 / 256, 1 / (2 * 3)
    expected = {
        "steps_per_epoch": 3,
        "total_steps": 12,
        "lr": lr,
        "lambda": decay,
        "delay_steps": 3,
        "phi_first": 1 / (1 + math.exp(-3 * decay)) + 1e-3,
        "phi_last": 1 / (1 + math.exp(8 * decay)) + 1e-3,
        "micro_batch_size": 17,
        "batchnorm_batch": 14,  # 40 in three: 14, 13, 13
        "train_items": 120,
        "validation_items": 40,
        "test_items": 40,
        "classes": 4,
        "parameters": 77_364,
    }
    assert {key: facts[key] for key in expected} == pytest.approx(expected)
    assert facts["data_hash"] == load_data(config.data).content_hash
    assert (facts["device"], facts["torch_version"]) == ("cpu", torch.__version__)
    literal = make_config("tvlars", hyperparameters={**config.hyperparameters, "gamma_min": "paper_literal"})
    assert describe(literal)["phi_last"] == pytest.approx(expected["phi_last"] - 1e-3 + 1e-3 * 40 / 256)
    assert {"phi_first", "phi_last", "lambda", "delay_steps"}.isdisjoint(describe(make_config("sgd_warmup")))
