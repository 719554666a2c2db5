"""A run that was stopped or crashed and taken up again equals one that was not, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trainables import loop
from trainables.checkpoint import CheckpointMismatchError
from trainables.config import TrialConfig
from trainables.loop import Report, train
from trainables.models import MODELS

Make = Callable[..., TrialConfig]
Final = Callable[[Path], dict[str, Any]]
Untimed = Callable[[Report], Report]
AssertSame = Callable[[object, object], None]
ARMS = ["lars_warmup", "tvlars", "lamb_warmup", "sgd_warmup", "adamw", "clars", "clars_warmup"]
SUBSET = {"sample_norms": "subset", "norm_samples": 5}


class PlantedCrashError(Exception):
    pass


class Recorder:
    """Keeps reports; asks to stop or crashes at given epochs, once each."""

    def __init__(self, stop_at: int = 0, crash_at: int = 0) -> None:
        self.reports: list[Report] = []
        self.stop_at, self.crash_at = stop_at, crash_at

    def __call__(self, report: Report) -> None:
        self.reports.append(report)
        if report["epoch"] == self.crash_at:
            raise PlantedCrashError

    def should_stop(self) -> bool:
        return bool(self.reports) and self.reports[-1]["epoch"] == self.stop_at


@pytest.fixture
def check(
    make_config: Make, final_state: Final, untimed: Untimed, assert_same: AssertSame, tmp_path: Path
) -> Callable[..., None]:
    """Run `config` uninterrupted and through `interrupt(folder)`, then compare everything."""

    def compare(config: TrialConfig, interrupt: Callable[[Path], None]) -> None:
        whole, resumed = tmp_path / "whole", tmp_path / "resumed"
        straight, again = Recorder(), Recorder()
        expected = train(config, straight, checkpoint_dir=whole)
        interrupt(resumed)
        outcome = train(config, again, checkpoint_dir=resumed)
        assert (outcome.status, outcome.epochs) == (expected.status, expected.epochs)
        assert list(map(untimed, again.reports)) == list(map(untimed, straight.reports))
        assert_same(final_state(resumed), final_state(whole))

    return compare


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("epoch", [1, 3])
def test_after_a_stop(make_config: Make, check: Callable[..., None], arm: str, epoch: int) -> None:
    config = make_config(arm, evaluate_test=True)

    def interrupt(folder: Path) -> None:
        recorder = Recorder(stop_at=epoch)
        outcome = train(config, recorder, checkpoint_dir=folder, should_stop=recorder.should_stop)
        assert (outcome.status, len(recorder.reports)) == ("stopped", epoch)

    check(config, interrupt)


@pytest.mark.parametrize("arm", ARMS)
def test_after_crashes(make_config: Make, check: Callable[..., None], arm: str) -> None:
    config = make_config(arm)

    def interrupt(folder: Path) -> None:
        for epoch in (2, 3):
            recorder = Recorder(crash_at=epoch)
            with pytest.raises(PlantedCrashError):
                train(config, recorder, checkpoint_dir=folder)
            assert [report["epoch"] for report in recorder.reports] == list(range(1, epoch + 1))

    check(config, interrupt)


@pytest.mark.parametrize("arm", ["clars", "clars_warmup"])
@pytest.mark.parametrize("epoch", [1, 3])
def test_with_norms_of_drawn_samples(make_config: Make, check: Callable[..., None], arm: str, epoch: int) -> None:
    config = make_config(arm, hyperparameters={**make_config(arm).hyperparameters, **SUBSET})

    def interrupt(folder: Path) -> None:
        recorder = Recorder(stop_at=epoch)
        train(config, recorder, checkpoint_dir=folder, should_stop=recorder.should_stop)
        recorder = Recorder(crash_at=epoch + 1)
        with pytest.raises(PlantedCrashError):
            train(config, recorder, checkpoint_dir=folder)

    check(config, interrupt)


@pytest.mark.parametrize("every", [1, 3])
def test_after_a_stop_between_steps(
    make_config: Make, check: Callable[..., None], monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    config = make_config("lars_warmup", checkpoint_every_epochs=every, epochs=5)

    def interrupt(folder: Path) -> None:
        asked: list[int] = []
        reports: list[Report] = []

        def in_the_third_epoch() -> bool:
            if len(reports) == 2:
                asked.append(1)
            # once after the report, then before micro-batches
            return len(asked) == 4

        with monkeypatch.context() as patch:
            patch.setattr(loop, "POLL_SECONDS", 0.0)
            outcome = train(config, reports.append, checkpoint_dir=folder, should_stop=in_the_third_epoch)
        assert (outcome.status, outcome.epochs, len(asked)) == ("stopped", 2, 4)
        # whole epochs are on disk, whatever was due
        assert [path.name[:12] for path in sorted(folder.iterdir())][-1] == "epoch-000002"

    check(config, interrupt)


def test_with_a_model_that_draws(
    make_config: Make, check: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dropout(in_channels: int, classes: int, image_size: int) -> nn.Module:
        pixels = in_channels * image_size**2
        return nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(pixels, classes))

    monkeypatch.setitem(MODELS, "dropout", dropout)
    config = make_config(model="dropout")

    def interrupt(folder: Path) -> None:
        recorder = Recorder(stop_at=2)
        torch.rand(3)
        train(config, recorder, checkpoint_dir=folder, should_stop=recorder.should_stop)

    check(config, interrupt)


def test_after_a_torn_checkpoint(make_config: Make, check: Callable[..., None]) -> None:
    config = make_config("tvlars")

    def interrupt(folder: Path) -> None:
        recorder = Recorder(stop_at=3)
        train(config, recorder, checkpoint_dir=folder, should_stop=recorder.should_stop)
        newest = max(folder.iterdir())
        newest.write_bytes(newest.read_bytes()[:1000])

    check(config, interrupt)


def test_without_any_sound_checkpoint_training_starts_anew(make_config: Make, check: Callable[..., None]) -> None:
    config = make_config("sgd_warmup")

    def interrupt(folder: Path) -> None:
        recorder = Recorder(stop_at=3)
        train(config, recorder, checkpoint_dir=folder, should_stop=recorder.should_stop)
        for path in folder.iterdir():
            path.write_bytes(b"torn")

    check(config, interrupt)


def test_a_finished_trial_only_repeats_its_reports(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(evaluate_test=True)
    first, second = Recorder(), Recorder()
    expected = train(config, first, checkpoint_dir=tmp_path)
    monkeypatch.setattr(loop, "train_epoch", None)
    assert train(config, second, checkpoint_dir=tmp_path) == expected
    assert second.reports == first.reports


def test_a_stop_is_heard_while_reports_are_repeated(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    train(config, Recorder(), checkpoint_dir=tmp_path)
    recorder = Recorder(stop_at=2)
    outcome = train(config, recorder, checkpoint_dir=tmp_path, should_stop=recorder.should_stop)
    assert (outcome.status, outcome.epochs, len(recorder.reports)) == ("stopped", 2, 2)


@pytest.mark.parametrize(("arm", "base_lr", "knobs"), [("sgd", 1e38, {}), ("clars", 1e7, SUBSET)])
def test_a_diverged_trial_diverges_again(
    make_config: Make, tmp_path: Path, untimed: Untimed, arm: str, base_lr: float, knobs: Mapping[str, Any]
) -> None:
    config = make_config(arm, hyperparameters={"base_lr": base_lr, "weight_decay": 0.0, **knobs}, one_d_lr="raw")
    first, second = Recorder(), Recorder()
    one = train(config, first, checkpoint_dir=tmp_path)
    other = train(config, second, checkpoint_dir=tmp_path)
    assert (one.status, one.reason) == (other.status, other.reason)
    assert one.status == "diverged"
    assert list(map(untimed, first.reports)) == list(map(untimed, second.reports))


def test_another_configuration_is_refused(make_config: Make, tmp_path: Path) -> None:
    train(make_config(epochs=1), Recorder(), checkpoint_dir=tmp_path)
    with pytest.raises(CheckpointMismatchError, match="another configuration"):
        train(make_config(epochs=1, seed=9), Recorder(), checkpoint_dir=tmp_path)
