"""SIGKILL of the driver at random moments of a study's life, each resumed: nothing is lost, nothing is there twice."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from study.home import StudyHome
from study.plan import make_plan
from study.records import COMPLETE, CONFIRM, PRUNED, SEARCH, StudyRecord
from study.rungs import RungLog
from study.search.ledger import Ledger
from study.session import load_record
from study.spec import Spec
from study.sweep.scheduler import EarlyStopping

STUDY = (
    "digits-warmup",
    "name=killed",
    "arms=[lars, tvlars]",
    "claims=[]",
    "train.epochs=8",
    "train.checkpoint_every_epochs=2",
    "search.early_stopping={method: asha, reduction_factor: 2}",
)
SHORT = (*STUDY, "search.trials=3", "search.repeats=1")
LONG = (*STUDY, "search.trials=6", "search.repeats=2", "confirm.seeds=2")
METRIC = "val/accuracy"


class Killed:
    """A study in a folder of its own whose driver is killed and started again."""

    def __init__(self, folder: Path, words: tuple[str, ...], seed: int) -> None:
        self.words = words
        self.home = StudyHome(folder / "studies", "killed")
        self.rng = random.Random(seed)
        self.kills: list[str] = []
        self.agents: list[psutil.Process] = []

    def start(self) -> subprocess.Popen[str]:
        resume = ["--resume"] if self.home.facts.exists() else []
        dropped = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "STUDY_HOME")
        return subprocess.Popen(
            [sys.executable, "-m", "study.run", *self.words, *resume, "--home", str(self.home.root)],
            env={name: value for name, value in os.environ.items() if name not in dropped},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def kill_at(self, moment: str) -> bool:
        """Run the driver up to a random point of a part of its life and kill it; False where it ended before."""
        process = self.start()
        reached = self._moment(moment)
        while process.poll() is None and not reached():
            time.sleep(0.02)
        time.sleep(self.rng.uniform(0, 0.5))
        if process.poll() is not None:
            assert process.returncode == 0, process.communicate()[0]
            return False
        tree = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        out, _ = process.communicate()
        assert "Traceback" not in out, out
        self.kills.append(moment)
        # What the driver had started ends with it; Ray's agents try to tell the dead head of it for a minute first.
        deadline = time.monotonic() + 30
        while others := [found for found in living(tree, seconds=0.2) if not is_agent(found)]:
            assert time.monotonic() < deadline, others
        self.agents += living(tree, seconds=0)
        return True

    def run(self) -> str:
        """Run what is left to the end; returns what was printed."""
        process = self.start()
        out, _ = process.communicate(timeout=1200)
        assert process.returncode == 0, out
        assert "Traceback" not in out
        return out

    def _moment(self, moment: str) -> Callable[[], bool]:
        begun = time.monotonic()
        if moment == "start":  # imports, the lock, Ray's start, the first trials
            seconds = self.rng.uniform(0.5, 12)
            return lambda: time.monotonic() - begun > seconds
        if moment == "search":
            more = self._reported() + self.rng.randint(1, 12)
            return lambda: self._reported() >= more
        if moment == "confirm":
            done = len(list(self.home.folder.glob("trials/*_c*/reports.jsonl")))
            return lambda: len(list(self.home.folder.glob("trials/*_c*/reports.jsonl"))) > done
        if self._all_ended():  # already: somewhere between the first import and the last line of the report
            seconds = self.rng.uniform(1, 10)
            return lambda: time.monotonic() - begun > seconds
        return lambda: self._all_ended()

    def _reported(self) -> int:
        return sum(path.read_bytes().count(b"\n") for path in self.home.folder.glob("trials/*/reports.jsonl"))

    def _all_ended(self) -> bool:
        """The sweep is over, or nearly: the last confirm run has its last epoch."""
        runs = list(self.home.folder.glob("trials/*_c*/reports.jsonl"))
        cells = self.words[2].count(",") + 1
        numbers = [int(word.partition("=")[2]) for word in self.words if "repeats" in word or "seeds" in word]
        return len(runs) >= cells * math.prod(numbers) and all(path.read_bytes().count(b"\n") >= 8 for path in runs)


def is_agent(process: psutil.Process) -> bool:
    """One of Ray's, by the title that it gives itself once it is up."""
    try:
        return "Agent" in process.name()
    except psutil.Error:
        return True  # gone meanwhile


def living(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that still run after that time."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return [found for found in alive if found.is_running() and found.status() != psutil.STATUS_ZOMBIE]


def check(study: Killed) -> StudyRecord:
    """Everything that must hold of a study that ran to its end, whatever happened on the way."""
    home = study.home
    assert not living(study.agents, seconds=120)
    record = load_record(home)
    plan = record.plan
    assert record.finished
    assert [trial.number for trial in record.trials] == list(range(len(record.trials)))
    places = Counter((trial.cell, trial.repeat, trial.phase, trial.index) for trial in record.trials)
    assert set(places.values()) == {1}
    per_cell = Counter((trial.cell, trial.phase) for trial in record.trials)
    assert per_cell == {
        (cell.name, phase): count * plan.repeats
        for cell in plan.cells
        for phase, count in ((SEARCH, cell.trials), (CONFIRM, plan.confirm_seeds))
    }
    assert {trial.state for trial in record.trials} <= {COMPLETE, PRUNED}
    for trial in record.trials:
        assert sorted(trial.curve) == list(range(1, trial.epochs + 1))  # each epoch, once
        assert trial.epochs == (8 if trial.state == COMPLETE else max(trial.curve))
    assert home.report.exists()
    check_optuna(home, record)
    check_mlflow(home, record)
    check_rungs(home, record)
    return record


def check_optuna(home: StudyHome, record: StudyRecord) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(home.ledger)))
    states = Counter[str]()
    for name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        states.update(trial.state.name for trial in study.trials if "began" in trial.user_attrs)
        assert all(trial.state.is_finished() for trial in study.trials)
    ours = Counter(trial.state.upper() for trial in record.trials)
    assert states == ours


def check_mlflow(home: StudyHome, record: StudyRecord) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=home.mlflow_uri)
    experiment = client.get_experiment_by_name(record.name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=5000)
    assert {run.info.status for run in runs} == {"FINISHED"}
    keys = Counter(run.data.tags["study.key"] for run in runs)
    assert set(keys.values()) == {1}
    assert len(keys) == 1 + len(record.plan.cells) + len(record.trials)
    outcomes = {
        int(run.data.tags["study.trial"]): run.data.tags["study.outcome"]
        for run in runs
        if "study.trial" in run.data.tags
    }
    assert outcomes == {trial.number: trial.state for trial in record.trials}


def check_rungs(home: StudyHome, record: StudyRecord) -> None:
    """The rungs that the ledger alone gives are those of the log that was kept while they were made."""
    spec = Spec.model_validate(dict(record.spec))
    plan = make_plan(spec)
    jobs = Ledger(home.ledger, plan, spec.search, read_only=True).jobs()
    scheduler = EarlyStopping({job.key: job for job, _ in jobs}.__getitem__, METRIC, spec.search.early_stopping)
    scheduler.replay(jobs)
    rebuilt: dict[tuple[str, int], float] = {}
    for job, _ in jobs:
        rungs = scheduler.rungs_of(job)
        for epoch, values in rungs.recorded().items() if rungs else ():
            rebuilt |= {(key, epoch): value for key, value in values.items()}
    log = RungLog(home.rungs).read()
    assert len({(verdict.trial, verdict.epoch) for verdict in log}) == len(log)  # each verdict once
    logged = {(verdict.trial, verdict.epoch): verdict.value for verdict in log}
    assert logged == rebuilt
    stopped = {(verdict.trial, verdict.epoch) for verdict in log if not verdict.goes_on}
    assert stopped == {(job.key, found.epochs) for job, found in jobs if found.state == PRUNED}


def test_three_kills(tmp_path: Path) -> None:
    study = Killed(tmp_path, SHORT, seed=3)
    for moment in ("start", "search", "report"):
        study.kill_at(moment)
    assert len(study.kills) >= 2
    study.run()
    check(study)
    ledger = study.home.ledger.read_bytes()
    assert "nothing is left to run" in study.run()
    assert study.home.ledger.read_bytes() == ledger


@pytest.mark.proof
@pytest.mark.timeout(7200)
def test_thirty_kills(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    studies = [Killed(tmp_path / "0", LONG, seed=30)]
    for moment in (*("start",) * 8, *("search",) * 12, *("confirm",) * 6, *("report",) * 4):
        while not studies[-1].kill_at(moment):  # it was done before it could be hit: on with another
            check(studies[-1])
            studies.append(Killed(tmp_path / str(len(studies)), LONG, seed=30 + len(studies)))
    whole = Killed(tmp_path / "whole", LONG, seed=0)
    whole.run()
    unkilled = per_cell(check(whole))
    for study in studies:
        study.run()
        assert per_cell(check(study)) == unkilled
    kills = Counter(moment for study in studies for moment in study.kills)
    assert kills == {"start": 8, "search": 12, "confirm": 6, "report": 4}
    with capsys.disabled():
        counts = ", ".join(str(len(study.kills)) for study in studies)
        print(f"\n30 kills ({counts} of {len(studies)} studies) of {sum(unkilled.values())} trials each, each once")


def per_cell(record: StudyRecord) -> Counter[tuple[str, str]]:
    return Counter((trial.cell, trial.phase) for trial in record.trials)
