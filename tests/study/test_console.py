"""What the command line prints around a run."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from study import console
from study.home import StudyHome
from study.load import load_study, shipped_studies
from study.plan import make_plan
from study.records import StudyRecord
from study.spec import Spec

SpecFactory = Callable[..., Spec]


def test_header_says_what_will_be_spent(make_spec: SpecFactory) -> None:
    spec = make_spec(search={"trials": 3, "repeats": 2, "early_stopping": {"method": "asha"}})
    lines = console.header(spec, make_plan(spec)).splitlines()
    assert lines == [
        "tiny: 2 arms, 1 block, 2 cells",
        "  which?",
        "  search   4 searches (2 cells x 2 repeats) of 3 trials, tpe, ASHA, rungs at epoch 1, 3, 9, "
        "reduction factor 3",
        "  confirm  4 runs of the winners on the test split",
        "  at most  16 trials, 160 epochs, 163,840 samples",
    ]


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"equalize": True, "early_stopping": {"method": "median"}}, "samples; further trials on top"),
        ({"early_stopping": {"method": "asha", "audit": 0.1}}, "samples; audits on top"),
        (
            {"equalize": True, "early_stopping": {"method": "asha", "audit": 1}},
            "samples; further trials and audits on top",
        ),
    ],
)
def test_what_comes_on_top_of_the_plan_is_said(make_spec: SpecFactory, search: dict[str, object], words: str) -> None:
    spec = make_spec(search={"trials": 3, "repeats": 2, **search})
    assert console.header(spec, make_plan(spec)).endswith(words)


def test_header_of_the_least(make_spec: SpecFactory) -> None:
    spec = make_spec(arms=["sgd"], search={"trials": 1, "repeats": 1, "method": "random"})
    header = console.header(spec, make_plan(spec))
    assert header.startswith("tiny: 1 arm, 1 block, 1 cell\n")
    assert "1 search (1 cell x 1 repeat) of 1 trial, random, no early stopping" in header
    assert "1 run of the winners" in header


def test_claims_in_words(make_spec: SpecFactory) -> None:
    both = {"arm": "lars", "than": "sgd", "margin": 0.02, "why": "w"}
    claims = [
        {"id": "N", "kind": "noninferior", **both},
        {"id": "R", "kind": "rate", "metric": "diverged", **both},
        {"id": "T", "kind": "trend", "arm": "lars", "over": "batch_size", "margin": 0.02, "why": "w"},
    ]
    spec = make_spec(train={"epochs": 10, "batch_size": [64, 128]}, claims=claims)
    lines = [line.split(",")[0] for line in console.dry_run(spec, make_plan(spec)).splitlines() if "claim" in line]
    assert lines == [
        "claim N: lars noninferior to sgd",
        "claim R: lars rate above that of sgd",
        "claim T: lars trend over batch_size",
    ]


def test_a_replayed_trial_is_told_digit_by_digit(make_record: Callable[..., StudyRecord]) -> None:
    record = make_record(arms=("lars",), repeats=1, trials=1)
    confirm = record.trials[-1]
    metrics = {"val/accuracy": 2 / 3, "test/accuracy": 0.7, "steps": 9.0}
    told = console.replayed(replace(record, trials=(replace(confirm, state="complete", epochs=20, metrics=metrics),)))
    assert told == "the trial: complete after 20 epochs, val/accuracy 0.6666666666666666, test/accuracy 0.7"


def test_dry_run_shows_blocks_cells_spaces_and_claims(make_spec: SpecFactory) -> None:
    claim = {"id": "C", "kind": "superior", "arm": "lars", "than": "sgd", "margin": 0.02, "why": "w"}
    spec = make_spec(train={"epochs": 10, "batch_size": [64, "full"], "micro_batch_size": 32}, claims=[claim])
    plan = make_plan(spec)
    shown = console.dry_run(spec, plan)
    assert shown.startswith(console.header(spec, plan))
    for piece in (
        "block B64: digits, resnet8, batch 64 (16 steps an epoch, micro-batch 32), 10 epochs, one_d_lr capped, float32",
        "block B1077: digits, resnet8, batch 1077 (1 step an epoch, micro-batch 32)",
        "1077 train, 360 validation, 360 test images; one test image is 0.28 points",
        "claim C: lars superior to sgd, accuracy, margin 0.02, level 0.95",
        f"lock {spec.digest()[:16]}; nothing was run",
    ):
        assert piece in shown
    for cell in plan.cells:
        assert f"  {cell.name}\n" in shown
        for name, dimension in cell.dimensions.items():
            assert f"    {name:<18} {dimension.describe()}\n" in shown
    assert "fixed: momentum 0.9, trust_coefficient 0.001, nesterov False" in shown


def test_list_names_every_study_and_the_default() -> None:
    shown = console.study_list()
    assert "digits-warmup (default)\n" in shown
    assert shown.count("(default)") == 1
    for name in shipped_studies():
        assert name in shown
        assert load_study(name).question.split()[0] in shown


def test_closing_says_cost_and_places(make_record: Callable[..., StudyRecord], tmp_path: Path) -> None:
    home = StudyHome(tmp_path / "my studies", "tiny")
    record = replace(make_record(), wall_seconds=171.4, cpu_seconds=312.9, peak_memory_bytes=3 << 29)
    shown = console.closing(home, record, whole_tree=True)
    assert shown.startswith("wall time 2:51, CPU 313 s, peak memory 1.50 GiB\n")
    assert f"report    {home.report}\n" in shown
    command = shown.split("open it with: ")[1]
    assert shlex.split(command) == ["mlflow", "ui", "--backend-store-uri", home.mlflow_uri]
    assert "the cluster's are not counted" in console.closing(home, record, whole_tree=False)


@pytest.mark.parametrize(
    "overrides", [(), ("search.trials=3",), ("question=Is it so?", "space.lars.base_lr={low: 1, high: 2}", "a='b'")]
)
def test_the_resume_command_survives_a_shell(overrides: tuple[str, ...], tmp_path: Path) -> None:
    home = StudyHome(tmp_path / "it's here", "tiny")
    words = shlex.split(console.resume_command("my study.yaml", overrides, home))
    assert words[:3] == ["python", "-m", "study.run"]
    assert words[3:] == ["my study.yaml", *overrides, "--resume", "--home", str(home.root)]


def test_the_default_home_need_not_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    home = StudyHome(tmp_path / "studies", "tiny")
    assert console.resume_command("digits-warmup", [], home) == "python -m study.run digits-warmup --resume"


def test_header_of_one_trial_run_again(make_spec: SpecFactory) -> None:
    replay = {"params": {"base_lr": 1.0}, "seed": 3, "split_seed": 4}
    for phase, split in (("search", "validation"), ("confirm", "test")):
        spec = make_spec(arms=["lars"], search={}, replay={**replay, "phase": phase})
        assert console.header(spec, make_plan(spec)).splitlines() == [
            "tiny: 1 arm, 1 block, 1 cell",
            "  which?",
            f"  replay   one trial, seed 3, split seed 4, 10 epochs; it reads the {split} split",
        ]
