"""The ledger: one Optuna study a cell and repeat, in one storage, is what a study knows after any crash.

Every trial stands in it from the moment it is asked for. What is COMPLETE, PRUNED or FAILED is settled; what is
RUNNING when the ledger is opened was cut off, and is handed out again with the same parameters. A diverged trial is
COMPLETE with its worst value, so that the sampler learns from it. Runs of other phases (re-ranking, confirm, audit)
have studies of their own beside their search's.

The storage opens as it is in optuna-dashboard. It has one writer: the driver that holds the study's lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import optuna
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import TrialState

from search_spaces import Value
from study.jobs import Job, trial_seed
from study.plan import Cell, Plan, derive_seed
from study.records import (
    AUDIT,
    CONFIRM,
    FAILED,
    LISTED,
    RERANK,
    SAMPLED,
    SEARCH,
    TOP_UP,
    TRY_FIRST,
    WARM_START,
    Ending,
    TrialRecord,
)
from study.search.samplers import make_sampler, suggest
from study.search.storage import open_store
from study.search.stored import BEGAN, ENDED, STATES, began, ended, fresh_record, settled, stored_job, stored_record
from study.search.tally import Tally
from study.sections import SearchSpec

PHASES = (SEARCH, RERANK, CONFIRM, AUDIT)


class Ledger:
    """All trials of a study, kept in Optuna's storage and mirrored in memory.

    With `read_only` nothing is mended or settled: a look at a study that another process may be running.

    Raises:
        StudyError: the storage does not open.
    """

    def __init__(self, path: Path, plan: Plan, search: SearchSpec, *, read_only: bool = False) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._reads_only = read_only
        self._store = open_store(search.storage, path, read_only=read_only)
        self._storage = self._store.storage
        self._plan = plan
        self._search = search
        self._studies: dict[tuple[str, int, str], optuna.Study] = {}
        self._places: dict[int, tuple[optuna.Study, int, int]] = {}  # job number -> study, Optuna's trial id and number
        self._records: dict[int, TrialRecord] = {}
        self._of_search: dict[tuple[str, int, str], list[int]] = {}
        self._tallies: dict[tuple[str, int], Tally] = {}
        self._watchers: list[set[tuple[str, int]]] = []
        self.forgiven: frozenset[int] = frozenset()  # numbers of failed trials that no longer count
        self._cut_off: list[Job] = []
        self._stored = {study.study_name: study._study_id for study in self._storage.get_all_studies()}
        for cell in plan.cells:
            for repeat in range(plan.repeats):
                for phase in PHASES:
                    self._read(cell, repeat, phase)
        self._cut_off.sort(key=lambda job: job.number)

    def begin_search_trial(self, cell: Cell, repeat: int, *, top_up: bool = False) -> Job:
        """The next point of a search: one that it was given, or what its sampler suggests."""
        point, origin = (None, TOP_UP) if top_up else self._next_point(cell, repeat)
        index = self._count(cell, repeat, SEARCH)
        seed = trial_seed(self._plan, repeat, SEARCH, index)
        return self._begin(cell, repeat, SEARCH, point, seed, origin, None)

    def begin_run(self, cell: Cell, repeat: int, phase: str, of: TrialRecord) -> Job:
        """Run a search trial's point once more in another phase: with a fresh seed, or for an audit with its own."""
        seed = of.seed
        if phase == CONFIRM:
            seed = trial_seed(self._plan, repeat, phase, self._count(cell, repeat, phase))
        elif phase == RERANK:  # the same for all candidates
            seed = trial_seed(self._plan, repeat, phase, len(self.runs_of(of.number, cell.name, repeat, phase)))
        return self._begin(cell, repeat, phase, of.params, seed, of.origin, of.number)

    def take_up(self) -> Job | None:
        """The next job that was cut off in an earlier session, to go on from its checkpoint."""
        return self._cut_off.pop(0) if self._cut_off else None

    @property
    def cut_off(self) -> int:
        """How many jobs of earlier sessions wait to be taken up."""
        return len(self._cut_off)

    def cut_off_jobs(self) -> tuple[Job, ...]:
        """The jobs of earlier sessions that wait to be taken up."""
        return tuple(self._cut_off)

    def report(self, job: Job, values: Mapping[int, float]) -> None:
        """Record the search metric of further epochs; what is recorded already is left as it is."""
        record = self._records[job.number]
        new = {epoch: value for epoch, value in values.items() if epoch not in record.curve}
        if not new:
            return
        _, trial_id, _ = self._places[job.number]
        with self._store.batch():
            for epoch, value in new.items():
                self._storage.set_trial_intermediate_value(trial_id, epoch, value)
        curve = {**record.curve, **new}
        self._records[job.number] = replace(record, curve=curve, epochs=max(curve))

    def end(self, job: Job, ending: Ending) -> None:
        """Settle a job for good; one that was cut off and never taken up as well."""
        study, trial_id, number = self._places[job.number]
        facts = ended(ending)
        with self._store.batch():
            self._storage.set_trial_user_attr(trial_id, ENDED, facts)
            _tell(study, number, ending.state, ending.value)
        self._cut_off = [other for other in self._cut_off if other.number != job.number]
        self._records[job.number] = settled(self._records[job.number], facts)
        self._count_end(job, ending.state)

    def records(self) -> tuple[TrialRecord, ...]:
        """Every trial, in order of start."""
        return tuple(self._records[number] for number in sorted(self._records))

    def record(self, number: int) -> TrialRecord:
        """One trial as it stands now."""
        return self._records[number]

    def jobs(self) -> tuple[tuple[Job, TrialRecord], ...]:
        """Every trial as a job, with its record, in order of start."""
        return tuple(
            (Job(r.number, self._plan.cell(r.cell), r.repeat, r.phase, r.index, r.params, r.seed), r)
            for r in self.records()
        )

    def of_search(self, cell: str, repeat: int, phase: str) -> tuple[TrialRecord, ...]:
        """The trials of one search (or its runs in another phase), in order of start."""
        return tuple(self._records[number] for number in self._of_search.get((cell, repeat, phase), ()))

    def forgive_failures(self) -> None:
        """Count what failed so far as never begun: each search trial and run gets a fresh one in its place."""
        self.forgiven = frozenset(record.number for record in self._records.values() if record.state == FAILED)
        for tally in self._tallies.values():
            tally.forgive()

    def delete(self) -> int:
        """Take all of the study's searches out of the storage; returns how many Optuna studies went."""
        names = [study.study_name for study in self._studies.values()]
        for name in names:
            optuna.delete_study(study_name=name, storage=self._storage)
        return len(names)

    def runs_of(self, number: int, cell: str, repeat: int, phase: str) -> tuple[TrialRecord, ...]:
        """The runs of a phase that repeat one search trial."""
        return tuple(run for run in self.of_search(cell, repeat, phase) if run.of == number)

    def tally(self, cell: str, repeat: int) -> Tally:
        """Counts over one search."""
        return self._tallies.setdefault((cell, repeat), Tally())

    def watch(self) -> set[tuple[str, int]]:
        """A set that gathers each search (cell, repeat) in which something begins or ends from now on."""
        self._watchers.append(set())
        return self._watchers[-1]

    def _next_point(self, cell: Cell, repeat: int) -> tuple[Mapping[str, Value] | None, str]:
        position = self.tally(cell.name, repeat).started
        if position < len(cell.points):
            return cell.points[position], LISTED if self._plan.grid else TRY_FIRST
        if self._plan.grid:  # every point was begun: what is missing failed, and is run once more
            had = [dict(t.params) for t in self.of_search(cell.name, repeat, SEARCH) if t.state != FAILED]
            return next(point for point in cell.points if dict(point) not in had), LISTED
        if position < len(cell.points) + len(cell.warm):
            return cell.warm[position - len(cell.points)], WARM_START
        return None, SAMPLED

    def _begin(
        self,
        cell: Cell,
        repeat: int,
        phase: str,
        point: Mapping[str, Value] | None,
        seed: int,
        origin: str,
        of: int | None,
    ) -> Job:
        study = self._study(cell, repeat, phase)
        with self._store.batch():
            if point is not None:
                study.enqueue_trial(dict(point))
            trial = study.ask()
            params = suggest(trial, cell.dimensions)
            index = self._count(cell, repeat, phase)
            job = Job(len(self._records), cell, repeat, phase, index, params, seed)
            trial.set_user_attr(BEGAN, began(job, origin, of))
        self._keep(job, study, trial._trial_id, trial.number, fresh_record(job, origin, of))
        return job

    def _count(self, cell: Cell, repeat: int, phase: str) -> int:
        return len(self._of_search.get((cell.name, repeat, phase), ()))

    def _keep(self, job: Job, study: optuna.Study, trial_id: int, number: int, record: TrialRecord) -> None:
        self._places[job.number] = (study, trial_id, number)
        self._records[job.number] = record
        self._of_search.setdefault((job.cell.name, job.repeat, job.phase), []).append(job.number)
        if job.phase == SEARCH:
            tally = self.tally(job.cell.name, job.repeat)
            tally.started += record.origin != TOP_UP
            tally.running += 1
        self._touch(job)
        if record.finished:
            self._count_end(job, record.state)

    def _count_end(self, job: Job, state: str) -> None:
        if job.phase == SEARCH:
            tally = self.tally(job.cell.name, job.repeat)
            tally.running -= 1
            if state == FAILED and self._records[job.number].origin != TOP_UP:
                own = [t.number for t in self.of_search(job.cell.name, job.repeat, SEARCH) if t.origin != TOP_UP]
                tally.failed.append(own.index(job.number))
        self._touch(job)

    def _touch(self, job: Job) -> None:
        for watcher in self._watchers:
            watcher.add((job.cell.name, job.repeat))

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
            conditional = any(dimension.when for dimension in cell.dimensions.values())
            sampler = make_sampler(self._search, seed, cell.trials, conditional=conditional)
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
        return f"{self._plan.name}/{cell.name}/r{repeat}" + ("" if phase == SEARCH else f"/{phase}")

    def _read(self, cell: Cell, repeat: int, phase: str) -> None:
        study_id = self._stored.get(self._name(cell, repeat, phase))
        if study_id is None:
            return
        frozen = self._storage.get_all_trials(study_id, deepcopy=False)
        study = self._open(cell, repeat, phase, existing=len(frozen))
        self._studies[cell.name, repeat, phase] = study
        for trial in frozen:
            job = stored_job(trial, cell, repeat, phase)
            if job is None:
                # Cut off between ask and the first note: nothing of it ran, so it gives its place back.
                # Straight to the storage: `tell` refuses a trial that still waits in the queue, as a confirm run may.
                if not trial.state.is_finished() and not self._reads_only:
                    self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                continue
            record = stored_record(job, trial)
            self._keep(job, study, trial._trial_id, trial.number, record)
            if trial.state.is_finished():
                continue
            if not record.finished:
                self._cut_off.append(job)
            elif not self._reads_only:  # cut off between the last two lines of `end`
                _tell(study, trial.number, record.state, record.value)


def _tell(study: optuna.Study, number: int, state: str, value: float | None) -> None:
    optuna_state = STATES[state]
    study.tell(number, value if optuna_state == TrialState.COMPLETE else None, state=optuna_state)
