"""Study files: what is wrong comes out as one sentence with place and remedy, what is right loads as it was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.errors import StudyError
from study.load import LARGEST_STUDY_FILE_BYTES, load_study
from study.plan import make_plan

BASE = "name: tiny\nquestion: q\narms: [lars]\n"


def _refusal(study: str | Path, *overrides: str) -> str:
    with pytest.raises(StudyError) as raised:
        make_plan(load_study(study, overrides))
    message = str(raised.value)
    assert raised.value.exit_code == 2
    assert "\n" not in message
    assert 20 < len(message) < 600
    for inner in ("Traceback", "pydantic", "instance of", "Spec", "ctx", "NoneType' object"):
        assert inner not in message
    return message


@pytest.mark.parametrize(
    ("override", "place", "remedy"),
    [
        # unknown keys, with the nearest known one
        ("search.trals=3", "'search.trals'", "did you mean 'trials'?"),
        ("serch.trials=3", "'serch'", "did you mean 'search'?"),
        ("train.batch_sise=8", "'train.batch_sise'", "did you mean 'batch_size'?"),
        ("search.early_stopping.methd=asha", "'search.early_stopping.methd'", "did you mean 'method'?"),
        ("data.nam=digits", "'data.nam'", "did you mean 'name'?"),
        ("data=[{nam: digits}]", "'data.0.nam'", "did you mean 'name'?"),
        ("claims.0.whi=x", "'claims.0.whi'", "did you mean 'why'?"),
        ("1=2", "'1'", "known there: schema_version, name"),
        # wrong types
        ("search.trials=x", "search.trials", "integer, but got 'x'"),
        ("search.trials='6'", "search.trials", "integer, but got '6'"),
        ("search.trials=6.0", "search.trials", "integer, but got 6.0"),
        ("search.trials=1e1", "search.trials", "integer, but got 10.0"),
        ("search.trials=true", "search.trials", "integer, but got True"),
        ("train.batch_size=true", "train.batch_size", "'full' or input should be a valid integer"),
        ("train.batch_size=x", "train.batch_size", "'full' or input should be a valid integer"),
        ("train.batch_size=[8, x]", "train.batch_size.1", "but got 'x'"),
        ("train.one_d_lr=true", "train.one_d_lr", "'raw' or 'capped'"),
        ("arms=lars", "arms", "valid list, but got 'lars'"),
        ("search=3", "search", "mapping of keys to values, but got 3"),
        ("space.lars=3", "space.lars", "mapping of keys to values, but got 3"),
        ("train=", "train", "mapping of keys to values, but got None"),
        ("question=", "question", "valid string, but got None"),
        ("claims=[3]", "claims.0", "but got 3"),
        ("data.root=3", "data.root", "valid string, but got 3"),
        ("name=2024", "name", "valid string, but got 2024"),
        ("data.resplit=no", "data.resplit", "valid boolean, but got 'no'"),  # a word in YAML 1.2
        # out of range
        ("train.epochs=0", "train.epochs", "greater than or equal to 1, but got 0"),
        ("search.seed=-1", "search.seed", "greater than or equal to 0, but got -1"),
        ("search.early_stopping.reduction_factor=1", "search.early_stopping.reduction_factor", "equal to 2, but got 1"),
        ("data.validation_fraction=0.5", "data.validation_fraction", "less than 0.5, but got 0.5"),
        ("train.label_smoothing=.nan", "train.label_smoothing", "finite number, but got nan"),
        ("train.one_d_lr=.inf", "train.one_d_lr", "but got inf"),
        ("train.one_d_lr=0", "train.one_d_lr", "greater than 0, but got 0"),
        ("claims.0.margin=-0.1", "claims.0.margin", "greater than or equal to 0"),
        ("question=''", "question", "at least 1 character"),
        ("schema_version=2", "schema_version", "should be 1, but got 2"),
        ("search.metric=val/loss", "search.metric", "should be 'val/accuracy'"),
        # unknown names
        ("arms=[lasr]", "arms", "unknown arm 'lasr'; did you mean 'lars'?"),
        ("data.name=digit", "data.name", "unknown data set 'digit'; did you mean 'digits'?"),
        ("data.name=mnist", "data.name", "known: cifar10"),
        ("model.name=resnet9", "model.name", "unknown model 'resnet9'; did you mean 'resnet8'?"),
        ("task=clasification", "task", "did you mean 'classification'?"),
        ("train.init=xavier", "train.init", "unknown initialisation 'xavier'; did you mean 'xavier_normal'?"),
        ("train.augmentation=flip", "train.augmentation of digits", "none, shift, barlow_twins_grey, but got 'flip'"),
        ("train.augmentation=crop_flip", "train.augmentation of digits", "but got 'crop_flip'"),
        ("train.augmentation=barlow_twins_grey", "classification trains on 1 view(s)", "choose none or shift"),
        ("task=barlow_twins", "barlow_twins trains on 2 view(s)", "none makes 1; for digits choose barlow_twins_grey"),
        ("search.method=tpee", "search.method", "'tpe', 'random', 'qmc', 'gp', 'cmaes' or 'grid'"),
        # duplicates and empties
        ("arms=[]", "arms", "at least 1 item"),
        ("arms=[lars, lars]", "arms", "each arm may stand once"),
        ("train.batch_size=[]", "train.batch_size", "must be given and differ"),
        ("train.batch_size=[8, 8]", "train.batch_size", "must be given and differ"),
        ("train.batch_size=[full, 1077]", "train.batch_size", "leave one out"),
        ("train.one_d_lr=[1, 1.0]", "train.one_d_lr", "must be given and differ"),
        ("model=[{name: resnet8}, {name: resnet8}]", "'model'", "must be given and differ"),
        ("data=[]", "'data'", "must be given and differ"),
        # sizes that only show when they meet
        ("train.batch_size=5000", "train.batch_size", "digits has 1077 training images"),
        ("space.lars.batch_size={values: [64, 5000]}", "space.lars.batch_size", "use a smaller number or 'full'"),
        ("search.method=grid", "search", "method grid compares every point at its full length"),
        ("search.early_stopping={method: none, audit: 0.1}", "search.early_stopping", "leave it out"),
        ("search.storage=mysql", "search.storage", "must be journal, sqlite or a database URL"),
        ("search.try_first=[{}]", "search.try_first", "must name at least one hyperparameter"),
        ("search.try_first={adam: [{base_lr: 1}]}", "search.try_first: 'adam'", "is no arm of this study"),
        ("search.try_first=[{base_lr: 1e9}]", "search.try_first: base_lr", "widen the range or change the point"),
        ("search.try_first={lars: [{warmup_epochs: 2}]}", "search.try_first.lars", "does not search 'warmup_epochs'"),
        ("confirm.rerank=1", "confirm.rerank", "takes two candidates or more"),
        ("budget.wall=soon", "budget.wall", "reads like 2h, 90m or 1h30m"),
        ("budget.device_hours=0", "budget.device_hours", "greater than 0"),
        ("space.lars.momentum={values: [0.9], when: 3}", "space.lars.momentum", "when must read {knob: [values]}"),
        ("space.lars.base_lr={low: 1, high: 2, when: {init: [default]}}", "space.lars.base_lr", "no condition"),
        ("space.lars.momentum={values: [0.9], when: {eps: [1]}}", "space.lars", "no hyperparameter of this arm"),
        ("resources.gpus_per_worker=2", "resources.gpus_per_worker", "give the trial more workers instead"),
        ("claims.0.kind=rate", "claim C1", "kind rate goes with metric diverged"),
        ("search.early_stopping.first_rung=2", "search.early_stopping.first_rung", "set it to 7 or more"),
        ("search.early_stopping.first_rung=20", "epoch 20 of 20", "search.early_stopping.method=none"),
        ("train.epochs=1", "epoch 1 of 1", "train longer"),
        ("space.tvlars.delay_epochs=25", "epoch 26 of 20", "narrow warmup_epochs and delay_epochs"),
        # search spaces
        ("space.lars.base_lr={low: 3, high: 1}", "space.lars.base_lr", "low <= high must hold, but got low=3, high=1"),
        ("space.lars.base_lr={low: 0, high: 1, log: true}", "space.lars.base_lr", "a log scale needs low > 0"),
        ("space.lars.base_lr={low: 1}", "space.lars.base_lr", "needs low and high, but got low"),
        ("space.lars.base_lr={}", "space.lars.base_lr", "needs low and high, but got nothing"),
        ("space.lars.base_lr={low: a, high: 3}", "space.lars.base_lr", "finite number, but got low='a'"),
        ("space.lars.base_lr={low: [1], high: 3}", "space.lars.base_lr", "low must be a number, but got [1]"),
        ("space.lars.base_lr={low: 1, high: .inf}", "space.lars.base_lr", "finite number, but got high=inf"),
        ("space.lars.base_lr={low: 1, high: 3, lgo: true}", "space.lars.base_lr", "'lgo' does not belong here"),
        ("space.lars.base_lr={low: 1, high: 3, log: 1}", "space.lars.base_lr", "log must be true or false"),
        ("space.lars.base_lr={low: 1, high: 3, int: 7}", "space.lars.base_lr", "int must be true or false"),
        ("space.lars.base_lr={low: 1.5, high: 3, int: true}", "space.lars.base_lr", "low must be a whole number"),
        ("space.lars.base_lr={low: 1, high: 3, why: 1}", "space.lars.base_lr", "why must be text"),
        ("space.lars.base_lr={values: 3}", "space.lars.base_lr", "values must be a list, but got 3"),
        ("space.lars.base_lr={values: [[1]]}", "space.lars.base_lr", "numbers, words or true/false, but got [1]"),
        ("space.lars.base_lr={values: [1, 1]}", "space.lars.base_lr", "must differ"),
        ("space.lars.base_lr=[1, 2]", "space.lars.base_lr", "write {values: [...]} for a choice"),
        ("space.lars.base_lr=", "space.lars.base_lr", "a hyperparameter is a value"),
        ("space.lars.base_lr=no", "space.lars.base_lr", "takes a number > 0, but got 'no'"),
        ("space.lars.base_lrr=3", "'base_lrr'", "did you mean 'base_lr'?"),
        ("space.lars.warmup_epochs=3", "'warmup_epochs'", "known: base_lr"),
        ("space.larss.base_lr=3", "'larss'", "did you mean 'lars'?"),
        ("space.all.warmup=3", "'warmup'", "did you mean"),
        ("space.lars.momentum=1", "space.lars.momentum", "a number >= 0 and < 1, but got 1"),
        ("space.lars.init={values: [default, foo]}", "space.lars.init", "the choices hold 'foo'"),
        # claims
        ("claims.0.than=lamb", "claim C1", "did you mean 'lamb_warmup'?"),
        ("claims.0.than=", "claim C1", "name the other one in 'than'"),
        ("claims.0.than=tvlars", "claim C1", "arm and than must differ"),
        ("claims.0.margin=0", "claim C1", "give a margin > 0"),
        ("claims.0.kind=better", "claims.0.kind", "'superior', 'noninferior', 'equivalent', 'rate' or 'trend'"),
        ("claims.0.kind=trend", "claim C1", "needs over: batch_size"),
        ("claims.0={id: T, kind: trend, arm: lars, over: batch_size, margin: 0, why: w}", "claim T", "two or more"),
        ("claims.0={id: T, kind: trend, arm: lars, margin: 0}", "claims.0.why", "is missing; add it"),
        # names that leave the home folder, or take what is there
        ("name=../x", "name", "it names a folder"),
        ("name=a/b", "name", "it names a folder"),
        ("name=..", "name", "it names a folder"),
        ("name=.hidden", "name", "begin with a letter or digit"),
        ("name=/etc", "name", "it names a folder"),
        ('name="a\\n"', "name", "it names a folder"),
        (f"name={'x' * 65}", "name", "at most 64"),
        ("name=mlflow.db", "name", "choose another name"),
        # the override itself
        ("search.trials", "'search.trials'", "for example search.trials=12"),
        ("=1", "'=1'", "must read key.path=value"),
        ("a..b=1", "'a..b=1'", "must read key.path=value"),
        ("search.trials=[", "line 1, column 2", "mend that line"),
        ("search.trials.x=3", "'search.trials'", "is a plain value, it has no 'x'"),
        ("claims.7.why=x", "'7'", "no position in a list of 1"),
        ("claims.x.why=x", "'x'", "no position in a list of 1"),
        ("arms.²=lars", "'²'", "no position in a list of 5"),
        ("question=!!python/object/apply:os.system [id]", "line 1", "use plain values"),
        ("question=!!python/name:os.system", "line 1", "use plain values"),
        ("question=!!timestamp x", "line 1", "use plain values"),
        ("question=!!int x", "'question=!!int x'", "unreadable YAML"),
        ("question=!!bool x", "'question=!!bool x'", "unreadable YAML"),
        ("question={a: 1, a: 2}", "line 1", "'a' stands twice"),
    ],
)
def test_overrides_that_are_refused(override: str, place: str, remedy: str) -> None:
    message = _refusal("digits-warmup", override)
    assert place in message
    assert remedy in message


def _bomb() -> str:
    """Nine aliases a level: a kilobyte that stands for 9^9 words."""
    levels = [f"  l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]\n" for level in range(1, 10)]
    return "name: bomb\nquestion: q\nspace:\n  l0: &l0 [x]\n" + "".join(levels) + "arms: *l9\n"


@pytest.mark.parametrize(
    ("content", "place", "remedy"),
    [
        ("name: [a\n", ", line 2, column 1", "mend that line"),
        ("name: a\n\tquestion: q\n", ", line 2, column 1", "unreadable YAML"),
        (BASE + "train: {epochs: 3\nx: 1\n", ", line 5", "mend that line"),
        (BASE + "name: b\n", ", line 4", "'name' stands twice"),
        (BASE + "train:\n  epochs: 3\n  epochs: 4\n", ", line 6", "'epochs' stands twice"),
        (BASE + "space: !!python/object/apply:os.system ['touch gotcha']\n", ", line 4", "use plain values"),
        (BASE + "space: !custom {}\n", ", line 4", "use plain values"),
        (BASE + "? [a]\n: 1\n", ", line 4", "unhashable key"),
        (BASE + "1: 2\n", "1:", "keys should be strings"),
        (BASE + "\0", ".yaml:", "special characters are not allowed"),
        (BASE + f"search: {{seed: {'1' * 5000}}}\n", ".yaml:", "unreadable YAML"),
        ("a: 1\n---\nb: 2\n", ", line 2", "another document"),
        ("[" * 5000, ".yaml:", "nested too deeply"),
        ("", ".yaml:", "this one holds nothing"),
        ("# only a comment\n", ".yaml:", "this one holds nothing"),
        ("- name: a\n", ".yaml:", "this one holds a list"),
        ("hello", ".yaml:", "this one holds a str"),
        ("name: a\narms: [lars]\n", "'question'", "is missing; add it"),
        (_bomb(), "arms", "valid string"),
        ("#" * (LARGEST_STUDY_FILE_BYTES + 1), ".yaml:", "at most 1 MiB"),
        (BASE + "space: &s {lars: *s}\n", "'lars'", "no hyperparameter 'lars'"),
    ],
)
def test_files_that_are_refused(content: str, place: str, remedy: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(content)
    message = _refusal(path)
    assert str(path) in message
    assert place in message
    assert remedy in message
    assert [entry.name for entry in tmp_path.iterdir()] == ["study.yaml"]


def test_places_that_hold_no_study(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    assert "is not UTF-8 text (byte 9); save it as UTF-8" in _refusal(tmp_path / "latin.yaml")
    (tmp_path / "wide.yaml").write_bytes(BASE.encode("utf-16"))
    assert "save it as UTF-8" in _refusal(tmp_path / "wide.yaml")
    assert f"{tmp_path} is a folder, not a study file" in _refusal(tmp_path)
    assert "nope.yaml does not exist; give a path" in _refusal("nope.yaml")
    assert "/dev/zero is no file to read" in _refusal("/dev/zero")
    assert "unknown study 'digits-warmpu'; did you mean 'digits-warmup'?" in _refusal("digits-warmpu")
    assert "more (a path to a file ends in .yaml)" in _refusal("x" * 5000)
    assert "write key.path=value" in _refusal("trials=3")
