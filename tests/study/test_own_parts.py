"""The user's own task, arm and model in a study, from files beside the study file: the shipped examples."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import study
from study.errors import StudyError
from study.jobs import Job, trial_config
from study.load import validate
from study.plan import Plan, make_plan
from study.records import CONFIRM
from study.spec import Spec
from trainables.config import TrialConfig
from trainables.loop import Report, train
from trainables.tasks import TaskFacts

EXAMPLES = Path(study.__file__).parent / "docs" / "examples"


@pytest.fixture(autouse=True)
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The examples as modules that Python finds, as it does those in the folder that it is started in."""
    for path in EXAMPLES.glob("own_*.py"):
        shutil.copy(path, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("own_task", "own_arm", "broken"):
        sys.modules.pop(name, None)


def spec_of(**changes: Any) -> Spec:
    fields = {
        "name": "own",
        "question": "q",
        "arms": ["own_arm:rmsprop", "sgd"],
        "task": "own_task:OneHot",
        "train": {"epochs": 12, "batch_size": 128},
        "search": {"trials": 2, "repeats": 1},
    }
    return validate({**fields, **changes}, where="own")


def config_of(spec: Spec, plan: Plan, params: dict[str, Any], cell: int = 0) -> TrialConfig:
    return trial_config(spec, plan, Job(0, plan.cells[cell], 0, CONFIRM, 0, params, seed=1))


def test_their_spaces_are_searched_and_their_training_learns() -> None:
    spec = spec_of()
    plan = make_plan(spec)
    own, sgd = plan.cells
    assert own.name == "own_arm:rmsprop/B128"
    assert set(own.dimensions) == {"base_lr", "weight_decay", "task.temperature"}
    assert own.space.fixed == {"alpha": 0.99}
    assert "task.temperature" in sgd.dimensions
    config = config_of(spec, plan, {"base_lr": 0.02, "weight_decay": 1e-4, "task.temperature": 2.0})
    assert config.task_options == {"temperature": 2.0}
    assert config.hyperparameters == {"base_lr": 0.02, "weight_decay": 1e-4, "alpha": 0.99}
    reports: list[Report] = []
    assert train(config, reports.append).status == "complete"
    assert reports[-1]["test/accuracy"] > 0.9
    assert reports[-1]["lr_effective"] == pytest.approx(0.01 / 96)  # linear over 12 epochs of 8 steps, to the last


def test_the_task_smooths_labels_as_the_study_asks() -> None:
    spec_of()  # imports it
    logits, labels = torch.tensor([[2.0, -1.0, 0.5, 0.0]]), torch.tensor([2])
    task = sys.modules["own_task"].OneHot(TaskFacts(4, label_smoothing=0.2, options={"temperature": 2.0}))
    targets, chances = np.array([0.05, 0.05, 0.85, 0.05]), 1 / (1 + np.exp(-logits[0].double().numpy() / 2))
    expected = -(targets * np.log(chances) + (1 - targets) * np.log(1 - chances)).mean()
    found = task.loss(torch.nn.Identity(), [logits], labels)
    assert float(found["loss"]) == pytest.approx(expected, rel=1e-6)


def test_examples_are_as_short_as_the_readme_says() -> None:
    for path in EXAMPLES.glob("own_*.py"):
        assert len(path.read_text().splitlines()) <= 30


def test_the_lock_sees_their_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of()
    before = spec.digest()
    own_task = sys.modules["own_task"]
    monkeypatch.setattr(own_task.OneHot, "space", {})
    assert spec.digest() != before


def test_options_are_set_or_searched_by_the_study_file() -> None:
    spec = spec_of(
        task={"name": "own_task:OneHot", "options": {"temperature": 3.0}}, space={"all": {"task.temperature": 1.5}}
    )
    plan = make_plan(spec)
    assert "task.temperature" not in plan.cells[0].dimensions
    assert config_of(spec, plan, {"base_lr": 0.1}).task_options == {"temperature": 1.5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ["nowhere:rmsprop"]}, "finds no module 'nowhere'"),
        ({"arms": ["own_arm:rmsprob"]}, "did you mean 'rmsprop'"),
        (
            {"arms": ["own_task:OneHot"]},
            "'own_task:OneHot' brings no search space|own_task:OneHot brings no search space",
        ),
        ({"task": "own_task:Nothing"}, "has no 'Nothing'"),
        ({"task": "regression"}, "unknown task 'regression'"),
        (
            {"arms": ["own_arm:rmsprop"], "space": {"own_arm:rmsprop": {"momentum": 0.9}}},
            "has no hyperparameter 'momentum'",
        ),
    ],
)
def test_what_is_wrong_with_them_is_said_at_load(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        spec_of(**changes)
