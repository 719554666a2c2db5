"""Good studies: they load as they were meant, go through plain data unchanged, and their lock sees every change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search_spaces import Choice, Float, Int
from study import load_study
from study.changes import parse_change
from study.load import SHIPPED, shipped_studies
from study.plan import make_plan
from study.spec import Spec

BASE = "name: tiny\nquestion: q\narms: [lars, lars_warmup]\n"


def _load(tmp_path: Path, text: str, *overrides: str) -> Spec:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return load_study(path, overrides)


@pytest.mark.parametrize("name", shipped_studies())
def test_shipped_studies_load(name: str) -> None:
    spec = load_study(name)
    assert spec.name == name
    assert spec == load_study(SHIPPED / f"{name}.yaml")
    assert make_plan(spec).trials > 0


def test_the_default_study_is_what_the_project_promises() -> None:
    spec = load_study()
    assert spec.name == "digits-warmup"
    assert spec.arms == ["lars", "lars_warmup", "tvlars", "lamb_warmup", "sgd_warmup"]
    assert spec.batch_sizes == ["full"]
    assert spec.search.repeats == 3


def test_the_least_that_a_study_says(tmp_path: Path) -> None:
    spec = _load(tmp_path, BASE)
    assert (spec.task, spec.train.batch_size, spec.search.method) == ("classification", "full", "tpe")
    assert spec.search.early_stopping.method == "none"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("3", 3),
        ("010", 10),
        ("0x10", 16),
        ("0o10", 8),
        ("-2", -2),
    ],
)
def test_numbers_are_those_of_yaml_1_2(text: str, value: float, tmp_path: Path) -> None:
    spec = _load(tmp_path, BASE + f"space: {{all: {{weight_decay: {{values: [{text if value >= 0 else 0}]}}}}}}\n")
    assert spec.space["all"]["weight_decay"]["values"] == [max(value, 0)]
    assert type(spec.space["all"]["weight_decay"]["values"][0]) is type(value)


@pytest.mark.parametrize("word", ["no", "on", "yes", "y", "2001-01-01", "1:30", "1_000", "="])
def test_words_stay_words(word: str, tmp_path: Path) -> None:
    assert _load(tmp_path, BASE, f"question={word}").question == word


def test_byte_order_mark_and_merge_keys(tmp_path: Path) -> None:
    text = "\ufeff" + BASE + "train: &t {epochs: 4}\nclaims: []\n"
    assert _load(tmp_path, text).train.epochs == 4
    spec = _load(
        tmp_path, BASE + "space: {lars: &s {base_lr: 1, momentum: 0.5}, lars_warmup: {<<: *s, momentum: 0.8}}\n"
    )
    assert spec.space == {"lars": {"base_lr": 1, "momentum": 0.5}, "lars_warmup": {"base_lr": 1, "momentum": 0.8}}


def test_overrides_apply_in_order(tmp_path: Path) -> None:
    overrides = [
        "search.trials=9",
        "space.lars.base_lr={low: 1, high: 2}",
        "search.trials=12",
        "space.lars.base_lr.high=4",
        "arms.1=tvlars",
        "train={epochs: 7}",
        "train.batch_size=[8, full]",
        "question='a = b'",
    ]
    spec = _load(tmp_path, BASE, *overrides)
    assert spec.search.trials == 12
    assert spec.space["lars"]["base_lr"] == {"low": 1, "high": 4}
    assert spec.arms == ["lars", "tvlars"]
    assert (spec.train.epochs, spec.train.batch_size) == (7, [8, "full"])
    assert spec.question == "a = b"


def test_an_override_changes_nothing_that_an_alias_shares(tmp_path: Path) -> None:
    text = BASE + "space: {lars: &s {base_lr: {low: 1, high: 2}}, lars_warmup: *s}\n"
    spec = _load(tmp_path, text, "space.lars.base_lr.high=9")
    assert spec.space["lars"]["base_lr"]["high"] == 9
    assert spec.space["lars_warmup"]["base_lr"]["high"] == 2


@pytest.mark.parametrize(
    ("change", "parsed"),
    [
        (3, 3),
        ("default", "default"),
        (True, True),
        ({"low": 1, "high": 2}, Float(low=1, high=2)),
        ({"low": 1, "high": 2, "log": True, "why": "w"}, Float(low=1, high=2, log=True, why="w")),
        ({"low": 0.1, "high": 0.2, "of_length": True}, Float(low=0.1, high=0.2, of_length=True)),
        ({"low": 1, "high": 8, "int": True, "log": True}, Int(low=1, high=8, log=True)),
        ({"values": [1, "a"], "source": "s"}, Choice(values=(1, "a"), source="s")),
    ],
)
def test_changes_to_a_space(change: Any, parsed: object) -> None:
    assert parse_change(change) == parsed


def test_batch_size_can_be_searched_by_single_valued_studies_only(make_spec: Callable[..., Spec]) -> None:
    spec = make_spec(space={"lars": {"batch_size": {"values": [32, 64]}}})
    assert [cell.name for cell in make_plan(spec).cells] == ["lars/Bany", "sgd/B64"]
