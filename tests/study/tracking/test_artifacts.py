"""Files of a trial's run: delivered by the tracker's thread, kept for later where the place for files refuses them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from study.records import Ending
from study.tracking.mlflow_runs import MlflowRuns
from study.tracking.spool import Spool

MakeEnding = Callable[..., Ending]
Study = Any  # conftest.Study
SECONDS = 60.0


def files_of(study: Study, key: str) -> list[str]:
    return [file.path for file in study.client().list_artifacts(study.runs()[key].info.run_id)]


def table(study: Study) -> Path:
    path: Path = study.folder / "trials" / "layers.jsonl"
    path.parent.mkdir()
    path.write_text('{"names": ["a"]}\n')
    return path


def run_trials(study: Study, make_ending: MakeEnding, files: Sequence[Sequence[Path]], store: Any = None) -> str | None:
    tracker = study.session(store)
    for index, own in enumerate(files):
        job = study.job(index)
        tracker.begin_trial(job, {})
        tracker.trial_reports(job, [{"epoch": 1.0, "val/loss": 1.0, "curvature/largest": 2.0, "layers/lnr_max": 3.0}])
        tracker.end_trial(job, make_ending(), own)
    said: str | None = tracker.close(SECONDS)
    return said


def test_a_trials_files_stand_in_its_run(study: Study, make_ending: MakeEnding) -> None:
    path = table(study)
    assert run_trials(study, make_ending, [[path], [], [path.with_name("missing")]]) is None
    keys = [study.job(index).key for index in range(3)]
    assert [files_of(study, key) for key in keys] == [["layers.jsonl"], [], []]
    run = study.runs()[keys[0]]
    local = study.client().download_artifacts(run.info.run_id, "layers.jsonl", str(study.folder))
    assert Path(local).read_text() == path.read_text()
    assert {"curvature/largest": 2.0, "layers/lnr_max": 3.0}.items() <= run.data.metrics.items()


def test_a_place_that_refuses_files_leaves_no_run_open(study: Study, make_ending: MakeEnding) -> None:
    path = table(study)

    def refusing() -> MlflowRuns:
        store = study.store()
        store.open()

        def refuse(run_id: str, file: str) -> None:
            raise PermissionError(f"no place for {file}")

        store._client.log_artifact = refuse
        store.open = lambda: None
        return store  # type: ignore[no-any-return]

    said = run_trials(study, make_ending, [[path], []], refusing)
    assert said is not None
    assert "no place for" in said
    for index in range(2):
        run = study.runs()[study.job(index).key]
        assert (run.info.status, run.data.tags["study.outcome"]) == ("FINISHED", "complete")
        assert run.data.metrics["val/loss"] == 1.0
    assert any(notes.artifacts for notes in Spool(study.spool).read())

    assert study.session().close(SECONDS) is None  # the next session brings what was kept
    assert files_of(study, study.job(0).key) == ["layers.jsonl"]
    assert not study.spool.exists()
    assert study.runs()[study.job(0).key].info.status == "FINISHED"
    assert len(study.steps(study.job(0).key, "val/loss")) == 1
