"""An exported trial: a study file whose one job is the trial's, to the last digit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from study.errors import StudyError
from study.export import main
from study.home import StudyHome
from study.jobs import trial_config
from study.load import load_study
from study.look import job_of, open_study
from study.plan import make_plan
from study.records import COMPLETE, CONFIRM, DIVERGED, FAILED, PRUNED, SEARCH, Ending
from study.search.ledger import Ledger
from study.spec import Spec
from study.work import WorkQueue

BeginHome = Callable[..., StudyHome]
SPACE = {"lars": {"batch_size": {"values": [64, 128]}, "init": {"values": ["default", "xavier_uniform"]}}}


def export(place: StudyHome, *arguments: str) -> int:
    return main(["tiny", "--home", str(place.root), *arguments])


@pytest.mark.parametrize("number", range(10))
def test_the_file_runs_the_same_trial(begin_home: BeginHome, tmp_path: Path, number: int) -> None:
    """Equal configs give equal results, bit for bit on a CPU: that is the training loop's promise."""
    train = {"epochs": 10, "batch_size": 64, "one_d_lr": "raw", "label_smoothing": 0.1, "init": "kaiming_normal"}
    place = begin_home([COMPLETE, PRUNED, DIVERGED, FAILED] + [COMPLETE] * 6, train=train, space=SPACE)
    out = tmp_path / "one.yaml"
    assert export(place, "--trial", str(number), "-o", str(out)) == 0
    record = open_study(place.folder)
    job = job_of(record, record.trials[number])
    wanted = trial_config(Spec.model_validate(record.spec), record.plan, job)

    spec = load_study(out)
    plan = make_plan(spec)
    ledger = Ledger(tmp_path / "one.log", plan, spec.search)
    queue = WorkQueue(plan, ledger)
    again = queue.next_job()
    assert again is not None
    assert again.phase == (CONFIRM if job.phase == CONFIRM else SEARCH)
    assert asdict(trial_config(spec, plan, again)) == asdict(wanted)
    assert queue.next_job() is None
    assert not queue.finished()
    ledger.end(again, Ending(COMPLETE, 0.5, 10, {}, None, 1.0))
    assert queue.next_job() is None
    assert queue.finished()


def test_a_confirm_run_is_among_them(begin_home: BeginHome) -> None:
    record = open_study(begin_home([COMPLETE] * 10).folder)
    assert {trial.phase for trial in record.trials} == {SEARCH, CONFIRM}


def test_one_block_of_several(begin_home: BeginHome, tmp_path: Path) -> None:
    train = {"epochs": 10, "batch_size": [64, "full"], "one_d_lr": ["raw", 0.024]}
    place = begin_home([COMPLETE] * 8, train=train)
    record = open_study(place.folder)
    assert len({trial.block for trial in record.trials}) == 4
    for trial in record.trials:
        out = tmp_path / f"{trial.number}.yaml"
        assert export(place, "--trial", str(trial.number), "-o", str(out)) == 0
        (cell,) = make_plan(load_study(out)).cells
        block = record.plan.cell(trial.cell).block
        assert (cell.arm, cell.block.batch_size, cell.block.one_d_lr) == (trial.arm, block.batch_size, block.one_d_lr)
        # Written out: what `auto` comes to may be another number in a later version.
        written = yaml.safe_load(out.read_text())["train"]
        assert written["micro_batch_size"] == cell.block.micro_batch_size == block.micro_batch_size
        assert written["precision"] == cell.block.precision


def test_the_best_by_search_value(begin_home: BeginHome, capsys: pytest.CaptureFixture[str]) -> None:
    place = begin_home([COMPLETE, COMPLETE, PRUNED, COMPLETE, DIVERGED])  # values 0.50, 0.51, ...
    assert export(place, "--best") == 0
    out = capsys.readouterr().out
    assert out.startswith("# Trial 3 (sgd/B64/r1/t0) of the study tiny, begun 2025-03-04T05:06:07+00:00, lock")
    assert "complete after 10 of 10 epochs, val/accuracy 0.53 at the last" in " ".join(out.replace("#", "").split())
    assert "it is no performance" in out
    assert "torch 2.11.0" in out
    assert yaml.safe_load(out)["name"] == "tiny-trial-3"
    assert export(place, "--best", "--cell", "lars/B64") == 0
    assert capsys.readouterr().out.startswith("# Trial 0 (lars/B64/r0/t0)")


def test_what_a_stopped_trial_will_do_is_said(begin_home: BeginHome, capsys: pytest.CaptureFixture[str]) -> None:
    place = begin_home([PRUNED, COMPLETE])
    sentence = "trains it to its full length; up to where it ended then, its curve is the same"
    export(place, "--trial", "0")
    assert sentence in capsys.readouterr().out
    export(place, "--trial", "1")
    assert sentence not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--trial", "5"), "has no trial '5'"),
        (("--best", "--cell", "sgd/B1"), "has no cell 'sgd/B1'; did you mean 'sgd/B64'?"),
        (
            ("--best", "--cell", "sgd/B64"),
            "no search trial of cell sgd/B64 of the study 'tiny' has trained to the end yet",
        ),
        (("--trial", "0", "--cell", "sgd/B64"), "--cell goes with --best"),
        (("--trial", "0", "-o", "one.txt"), "ends in .yaml, but got one.txt"),
        (("--trial", "0", "-o", "/nowhere/one.yaml"), "cannot be written (No such file or directory)"),
        ((), "one of the arguments --trial --best is required"),
    ],
)
def test_refusals(
    begin_home: BeginHome, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    place = begin_home([COMPLETE])
    assert export(place, *arguments) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


REPLAY = {"params": {"base_lr": 1.0}, "seed": 1, "split_seed": 2}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": ["lars", "sgd"]}, "replay runs one trial of one arm in one setting"),
        ({"train": {"batch_size": [64, 128]}}, "replay runs one trial of one arm in one setting"),
        ({"search": {"trials": 3}}, "'search' has no effect; leave it out"),
        ({"space": {"lars": {"momentum": 0.5}}}, "'space' has no effect; leave it out"),
        ({"confirm": {"seeds": 2}}, "'confirm' has no effect; leave it out"),
        ({"replay": {**REPLAY, "params": {}}}, "base_lr is missing"),
        ({"replay": {**REPLAY, "params": {"base_lr": 1.0, "momntum": 0.9}}}, "did you mean 'momentum'?"),
        ({"replay": {**REPLAY, "params": {"base_lr": -1.0}}}, "base_lr takes a number > 0"),
        ({"replay": {**REPLAY, "seed": -1}}, "replay.seed"),
        ({"replay": {**REPLAY, "phase": "both"}}, "replay.phase"),
    ],
)
def test_a_replay_that_is_none(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "question": "?", "arms": ["lars"], "replay": REPLAY, **changes}))
    with pytest.raises(StudyError) as raised:
        load_study(path)
    assert words in str(raised.value)


def test_a_replay_is_loaded_from_its_own_dict(tmp_path: Path) -> None:
    spec = Spec.model_validate({"name": "x", "question": "?", "arms": ["lars"], "replay": REPLAY})
    assert Spec.model_validate(spec.to_dict()) == spec
