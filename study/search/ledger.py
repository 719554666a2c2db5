"""The ledger: one Optuna study a cell and repeat, in one journal file, is what a study knows after any crash.

Every trial stands in it from the moment it is asked for. What is COMPLETE, PRUNED or FAILED is settled; what is
RUNNING when the ledger is opened was cut off, and is handed out again with the same parameters. A diverged trial is
COMPLETE with its worst value, so that the sampler learns from it. Confirm runs have a study of their own beside their
search's.

The storage opens as it is in optuna-dashboard. It has one writer: the driver that holds the study's lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import optuna
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from search_spaces import Value
from study.jobs import Job, trial_seed
from study.plan import Cell, Plan, derive_seed
from study.records import COMPLETE, CONFIRM, DIVERGED, FAILED, PRUNED, RUNNING, SEARCH, Ending, TrialRecord
from study.search.samplers import distribution, make_sampler
from study.sections import SearchSpec

_BEGAN = "began"  # user attribute: number, index, seed
_ENDED = "ended"  # user attribute: outcome, epochs, metrics, reason, seconds
_STATES = {
    COMPLETE: TrialState.COMPLETE,
    DIVERGED: TrialState.COMPLETE,
    PRUNED: TrialState.PRUNED,
    FAILED: TrialState.FAIL,
}


class Ledger:
    """All trials of a study, kept in Optuna's storage and mirrored in memory.

    With `read_only` nothing is mended or settled: a look at a study that another process may be running.
    """

    def __init__(self, path: Path, plan: Plan, search: SearchSpec, *, read_only: bool = False) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._reads_only = read_only
        if not read_only:
            mend_journal(path)
        self._storage = JournalStorage(JournalFileBackend(str(path)))
        self._plan = plan
        self._search = search
        self._studies: dict[tuple[str, int, str], optuna.Study] = {}
        self._places: dict[int, tuple[optuna.Study, int]] = {}  # job number -> its study and Optuna's trial id
        self._records: dict[int, TrialRecord] = {}
        self._of_search: dict[tuple[str, int, str], list[int]] = {}
        self._cut_off: list[Job] = []
        self._stored = {study.study_name: study._study_id for study in self._storage.get_all_studies()}
        for cell in plan.cells:
            for repeat in range(plan.repeats):
                for phase in (SEARCH, CONFIRM):
                    self._read(cell, repeat, phase)
        self._cut_off.sort(key=lambda job: job.number)

    def begin_search_trial(self, cell: Cell, repeat: int) -> Job:
        """Ask the search's sampler for the next point."""
        study = self._study(cell, repeat, SEARCH)
        trial = study.ask({name: distribution(dimension) for name, dimension in cell.dimensions.items()})
        return self._begin(study, trial, cell, repeat, SEARCH)

    def begin_confirm_run(self, cell: Cell, repeat: int, params: Mapping[str, Value]) -> Job:
        """Put a winner's parameters to a fresh seed."""
        study = self._study(cell, repeat, CONFIRM)
        study.enqueue_trial(dict(params))
        trial = study.ask({name: distribution(dimension) for name, dimension in cell.dimensions.items()})
        return self._begin(study, trial, cell, repeat, CONFIRM)

    def take_up(self) -> Job | None:
        """The next job that was cut off in an earlier session, to go on from its checkpoint."""
        return self._cut_off.pop(0) if self._cut_off else None

    @property
    def cut_off(self) -> int:
        """How many jobs of earlier sessions wait to be taken up."""
        return len(self._cut_off)

    def report(self, job: Job, values: Mapping[int, float]) -> None:
        """Record the search metric of further epochs; what is recorded already is left as it is."""
        record = self._records[job.number]
        new = {epoch: value for epoch, value in values.items() if epoch not in record.curve}
        if not new:
            return
        _, trial_id = self._places[job.number]
        for epoch, value in new.items():
            self._storage.set_trial_intermediate_value(trial_id, epoch, value)
        curve = {**record.curve, **new}
        self._records[job.number] = replace(record, curve=curve, epochs=max(curve))

    def end(self, job: Job, ending: Ending) -> None:
        """Settle a job for good."""
        study, trial_id = self._places[job.number]
        facts = {
            "outcome": ending.state,
            "value": ending.value,
            "epochs": ending.epochs,
            "metrics": dict(ending.metrics),
            "reason": ending.reason,
            "wall_seconds": ending.wall_seconds,
        }
        self._storage.set_trial_user_attr(trial_id, _ENDED, facts)
        _tell(study, self._storage.get_trial(trial_id).number, ending.state, ending.value)
        self._records[job.number] = replace(
            self._records[job.number],
            state=ending.state,
            value=ending.value,
            epochs=ending.epochs,
            metrics=dict(ending.metrics),
            reason=ending.reason,
            wall_seconds=ending.wall_seconds,
        )

    def records(self) -> tuple[TrialRecord, ...]:
        """Every trial, in order of start."""
        return tuple(self._records[number] for number in sorted(self._records))

    def record(self, number: int) -> TrialRecord:
        """One trial as it stands now."""
        return self._records[number]

    def jobs(self) -> tuple[tuple[Job, TrialRecord], ...]:
        """Every trial as a job, with its record, in order of start."""
        return tuple(
            (
                Job(
                    record.number,
                    self._plan.cell(record.cell),
                    record.repeat,
                    record.phase,
                    record.index,
                    record.params,
                    record.seed,
                ),
                record,
            )
            for record in self.records()
        )

    def of_search(self, cell: str, repeat: int, phase: str) -> tuple[TrialRecord, ...]:
        """The trials of one search (or its confirm runs), in order of start."""
        return tuple(self._records[number] for number in self._of_search.get((cell, repeat, phase), ()))

    def _study(self, cell: Cell, repeat: int, phase: str) -> optuna.Study:
        place = (cell.name, repeat, phase)
        if place not in self._studies:
            self._studies[place] = self._open(cell, repeat, phase, existing=0)
        return self._studies[place]

    def _open(self, cell: Cell, repeat: int, phase: str, existing: int) -> optuna.Study:
        sampler: BaseSampler
        if phase == SEARCH:
            # With the seed of a fresh start a resumed sampler would suggest the first points once more.
            seed = derive_seed(self._plan.seed, "sampler", cell.name, repeat, existing)
            sampler = make_sampler(self._search, seed)
        else:
            sampler = RandomSampler(seed=0)  # never asked: all its parameters are enqueued
        name = self._name(cell, repeat, phase)
        if name in self._stored:  # to look at a ledger must not write to it
            study = optuna.load_study(study_name=name, storage=self._storage, sampler=sampler)
        else:
            study = optuna.create_study(study_name=name, storage=self._storage, sampler=sampler, direction="maximize")
        if study.direction != optuna.study.StudyDirection.MAXIMIZE:
            raise RuntimeError(f"{study.study_name} was stored as a study that minimises")
        return study

    def _name(self, cell: Cell, repeat: int, phase: str) -> str:
        return f"{self._plan.name}/{cell.name}/r{repeat}" + ("/confirm" if phase == CONFIRM else "")

    def _begin(self, study: optuna.Study, trial: optuna.Trial, cell: Cell, repeat: int, phase: str) -> Job:
        index = len(self._of_search.get((cell.name, repeat, phase), ()))
        job = Job(
            number=len(self._records),
            cell=cell,
            repeat=repeat,
            phase=phase,
            index=index,
            params=dict(trial.params),
            seed=trial_seed(self._plan, repeat, phase, index),
        )
        trial.set_user_attr(_BEGAN, {"number": job.number, "index": index, "seed": job.seed})
        self._keep(job, study, trial._trial_id, _fresh_record(job))
        return job

    def _keep(self, job: Job, study: optuna.Study, trial_id: int, record: TrialRecord) -> None:
        self._places[job.number] = (study, trial_id)
        self._records[job.number] = record
        self._of_search.setdefault((job.cell.name, job.repeat, job.phase), []).append(job.number)

    def _read(self, cell: Cell, repeat: int, phase: str) -> None:
        study_id = self._stored.get(self._name(cell, repeat, phase))
        if study_id is None:
            return
        frozen = self._storage.get_all_trials(study_id, deepcopy=False)
        study = self._open(cell, repeat, phase, existing=len(frozen))
        self._studies[cell.name, repeat, phase] = study
        for trial in frozen:
            began = trial.user_attrs.get(_BEGAN)
            if began is None:
                # Cut off between ask and the first note: nothing of it ran, so it gives its place back.
                # Straight to the storage: `tell` refuses a trial that still waits in the queue, as a confirm run may.
                if not trial.state.is_finished() and not self._reads_only:
                    self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                continue
            job = Job(began["number"], cell, repeat, phase, began["index"], dict(trial.params), began["seed"])
            record = _stored_record(job, trial)
            self._keep(job, study, trial._trial_id, record)
            if trial.state.is_finished():
                continue
            if record.finished:  # cut off between the last two lines of `end`
                if not self._reads_only:
                    _tell(study, trial.number, record.state, record.value)
            else:
                self._cut_off.append(job)


def mend_journal(path: Path) -> None:
    """Make a journal readable after a kill: drop a torn last line and the writer's stale lock file.

    Only the driver that holds the study's lock may call this.
    """
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("r+b") as file:
            file.truncate(whole)


def _tell(study: optuna.Study, number: int, state: str, value: float | None) -> None:
    optuna_state = _STATES[state]
    study.tell(number, value if optuna_state == TrialState.COMPLETE else None, state=optuna_state)


def _fresh_record(job: Job) -> TrialRecord:
    return TrialRecord(
        number=job.number,
        cell=job.cell.name,
        arm=job.cell.arm,
        block=job.cell.block.label,
        repeat=job.repeat,
        phase=job.phase,
        index=job.index,
        state=RUNNING,
        params=job.params,
        seed=job.seed,
        epochs=0,
        value=None,
        curve={},
        metrics={},
        reason=None,
        wall_seconds=0.0,
    )


def _stored_record(job: Job, trial: FrozenTrial) -> TrialRecord:
    curve = dict(trial.intermediate_values)
    record = replace(_fresh_record(job), curve=curve, epochs=max(curve, default=0))
    ended = trial.user_attrs.get(_ENDED)
    if ended is None:
        return replace(record, state=FAILED, reason="no ending was recorded") if trial.state.is_finished() else record
    return replace(
        record,
        state=ended["outcome"],
        value=ended["value"],
        epochs=ended["epochs"],
        metrics=ended["metrics"],
        reason=ended["reason"],
        wall_seconds=ended["wall_seconds"],
    )
