"""The JSON Schema: valid itself, true to what loads and what does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from search_spaces import ARM_SPACES
from study.load import shipped_studies
from study.run import main
from study.schema import study_schema

LEAST = {"name": "x", "question": "?", "arms": ["lars"]}


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = study_schema()
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


@pytest.mark.parametrize("path", shipped_studies().values(), ids=lambda path: path.stem)
def test_shipped_studies_fit(validator: Any, path: Path) -> None:
    assert list(validator.iter_errors(yaml.safe_load(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"arms": ["lars", "mine.optimizers:Lion"]},
        {"space": {"all": {"weight_decay": 5e-4}, "lars": {"base_lr": {"low": 0.1, "high": 1, "log": True}}}},
        {"data": [{"name": "digits"}], "train": {"batch_size": ["full", 128], "one_d_lr": ["raw", 0.024]}},
        {"search": {"early_stopping": {"method": "asha"}}, "confirm": {"seeds": 3}},
        {"replay": {"params": {"base_lr": 1.0, "nesterov": True}, "seed": 1, "split_seed": 2, "phase": "confirm"}},
    ],
)
def test_what_loads_fits(validator: Any, change: dict[str, Any]) -> None:
    assert list(validator.iter_errors(LEAST | change)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"arms": ["larz"]},
        {"arms": []},
        {"arm": "lars"},
        {"schema_version": 2},
        {"name": "../x"},
        {"data": {"name": "digitz"}},
        {"model": {"name": "resnet7"}},
        {"train": {"epochs": 0}},
        {"train": {"init": "xavier"}},
        {"train": {"epoch": 3}},
        {"search": {"method": "tpee"}},
        {"space": {"larz": {}}},
        {"claims": [{"id": "C"}]},
        {"task": "classify"},
    ],
)
def test_what_does_not_load_does_not_fit(validator: Any, change: dict[str, Any]) -> None:
    assert list(validator.iter_errors(LEAST | change))


def test_editors_get_words_and_names() -> None:
    schema = study_schema()
    train = schema["$defs"]["TrainSpec"]["properties"]
    assert train["batch_size"]["description"] == "Global batch; a list makes blocks."
    assert set(schema["properties"]["arms"]["items"]["anyOf"][0]["enum"]) == set(ARM_SPACES)
    knobs = schema["properties"]["space"]["additionalProperties"]["properties"]
    assert knobs["momentum"]["description"] == "momentum takes a number >= 0 and < 1"


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == study_schema()
