"""One session of a study, from the lock to the report."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.agreement import check_agreement
from study.calibration import read_calibration, with_micro_batches
from study.control import stopped_cells
from study.datasets import require_data
from study.errors import StudyError
from study.extension import additions
from study.facts import added_after_lock, first_facts, session_facts, with_additions
from study.home import StudyHome, home_root
from study.interrupts import handled, patient, stop_requested
from study.meter import Meter
from study.mounts import refuse_sqlite_on_network
from study.overview import devices_of
from study.plan import Plan, make_plan
from study.preflight import require_storage
from study.records import FAILED, StudyRecord, TrialRecord
from study.sections.storage import without_password
from study.spec import Spec
from study.spending import Spending, total_device_seconds
from study.storage import Storage, storage_of
from study.warm import warm_points, with_warm_points

if TYPE_CHECKING:
    from study.jobs import Job
    from study.search.ledger import Ledger
    from study.tracking.tracker import Tracker

TRACKING_SECONDS = 60.0
TRACKING_SECONDS_ON_STOP = 2.0
MOST_TRACEBACK = 8_000  # characters, the newest; the trial's folder has the whole


def run_study(
    spec: Spec,
    *,
    home: str | Path | None = None,
    address: str | None = None,
    storage: str | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    say: Callable[[str], None] = print,
) -> StudyRecord:
    """Run a study to its report, or as far as a request to stop allows.

    Args:
        spec: what to run, from `load_study`.
        home: the home folder of all studies; STUDY_HOME or ./studies where it is not given.
        address: a Ray cluster; RAY_ADDRESS or a cluster on this machine where it is not given.
        storage: where checkpoints go, a folder that every node sees or a URL; the home where it is not given.
        resume: go on with a study that was begun here before.
        retry_failed: give each trial that failed before a fresh replacement, whatever was replaced already.
        say: takes each line for the user.

    Returns:
        The study as it stands; `finished` is False where it was stopped.

    Raises:
        StudyError: something that the user can put right; nothing was spent.
    """
    plan = make_plan(spec)
    place = StudyHome(home_root(str(home) if home is not None else None), spec.name)
    before = place.read_facts()
    added = _check_resume(spec, plan, place, before, resume)
    if not (address or os.environ.get("RAY_ADDRESS")):  # each node of a cluster is asked for itself
        require_data(spec)
    place.create()
    _refuse_network(place)
    if before and added:
        before = with_additions(before, spec, plan, added)
        say(f"  added after the lock: {'; '.join(added)}")
    with place.locked():
        return _run(spec, plan, place, before, address, storage, say, retry_failed=retry_failed)


def load_record(place: StudyHome) -> StudyRecord:
    """A study that was run before, as its home holds it.

    Raises:
        StudyError: no such study here.
    """
    from study.load import validate
    from study.search.ledger import Ledger

    facts = place.read_facts()
    if facts is None:
        raise StudyError(f"no study '{place.name}' was run in {place.root}; run it first, or name its --home")
    spec = validate(facts["spec"], where=str(place.facts))
    plan = with_micro_batches(make_plan(spec), facts.get("micro_batches", {}))
    return _record(spec, plan, Ledger(place.ledger, plan, spec.search, read_only=True), facts, place)


def _run(
    spec: Spec,
    plan: Plan,
    place: StudyHome,
    before: dict[str, Any] | None,
    address: str | None,
    storage: str | None,
    say: Callable[[str], None],
    *,
    retry_failed: bool,
) -> StudyRecord:
    from study.search.ledger import Ledger
    from study.tracking.notes import end_of_study, start_of_study

    facts = before or first_facts(spec, plan)
    if before is None and (calibrated := read_calibration(place, spec)):
        facts["micro_batches"] = dict(calibrated.micro_batches)
    plan = with_micro_batches(plan, facts.get("micro_batches", {}))
    warm = warm_points(spec, plan, place, facts.get("warm_start", {}))
    if warm:
        facts["warm_start"] = warm
        plan = with_warm_points(plan, warm)
    ledger = Ledger(place.ledger, plan, spec.search)
    check_agreement(place, without_password(spec.search.storage), len(ledger.records()), begun=before is not None)
    if retry_failed:
        ledger.forgive_failures()
    if before and before.get("reported") and _finished(plan, ledger, place):
        say("nothing is left to run: the study is complete")
        record = _record(spec, plan, ledger, before, place)
        _write_report(record, place)
        return record
    facts.pop("ended_by", None)
    checkpoints = storage_of(place, storage, facts)
    require_storage(checkpoints.root)
    place.write_facts(facts)
    with handled():
        tracker = start_of_study(spec, plan, place, facts)
        if _finished(plan, ledger, place):
            say("nothing is left to run: every trial is done")
        else:
            ended_by = _sweep(
                spec, plan, checkpoints, ledger, tracker, facts, address, resumed=before is not None, say=say
            )
            if ended_by:
                facts["ended_by"] = ended_by
                say(f"  {ended_by} is spent: the study ends with what it has; raise it and --resume to go on")
        record = _record(spec, plan, ledger, facts, place)
        if stop_requested():
            return record
        report = _write_report(record, place)
        trouble = end_of_study(tracker, record, [report, place.facts], TRACKING_SECONDS)
        if trouble:
            say(f"MLflow could not be told everything ({trouble}); the rest is kept in {place.spool}")
        else:
            place.write_facts({**facts, "reported": True})
        return record


def _sweep(
    spec: Spec,
    plan: Plan,
    checkpoints: Storage,
    ledger: Ledger,
    tracker: Tracker,
    facts: dict[str, Any],
    address: str | None,
    *,
    resumed: bool,
    say: Callable[[str], None],
) -> str | None:
    """Run what is open, and enter into `facts` what it cost; after a request to stop the tracker is closed as well.

    Returns:
        The budget that ended it, if one did.
    """
    from study.coordinator import Coordinator
    from study.progress import Progress
    from study.sweep.engine import cluster, run_sweep

    place = checkpoints.home
    spending = Spending(spec.budget, devices_of(spec.resources.model_dump()), facts["sessions"])
    if spending.spent():
        return spending.spent()
    meter = Meter()
    facts["sessions"].append(session_facts(meter.usage(), {}))

    def keep() -> None:
        facts["sessions"][-1] = session_facts(meter.usage(), spending.device_seconds())
        place.write_facts(facts)

    settled = sum(record.finished for record in ledger.records())
    if resumed:
        most, cut_off = max(plan.trials, len(ledger.records())), ledger.cut_off
        go_on = f", {cut_off} that {'was' if cut_off == 1 else 'were'} cut off go on" if cut_off else ""
        say(f"  resuming: {settled} of {most} trials are done{go_on}")
    coordinator = Coordinator(
        spec,
        plan,
        place,
        ledger,
        tracker,
        Progress(plan, settled=settled),
        storage=checkpoints,
        spending=spending,
        keep=keep,
    )
    try:
        with patient(), cluster(address, spec=spec) as found:
            if not stop_requested():
                run_sweep(spec, checkpoints, coordinator, ledger.jobs(), found, say=say)
        if coordinator.fault:
            raise StudyError(f"{coordinator.fault}; mend it and run the study again")
    except StudyError:
        tracker.close_interrupted(coordinator.interrupted(), TRACKING_SECONDS_ON_STOP)
        if not any(record.epochs for record in ledger.records()):
            place.forget()  # nothing was trained: mending the cause needs no --resume
        raise
    except KeyboardInterrupt:
        if not stop_requested():
            raise
    finally:
        coordinator.close()
        meter.stop()
        if place.facts.exists():
            keep()
    if stop_requested():
        tracker.close_interrupted(coordinator.interrupted(), TRACKING_SECONDS_ON_STOP)
        return None
    tracker.cut_off(coordinator.interrupted())
    return coordinator.ended_by


def _refuse_network(place: StudyHome) -> None:
    scheme, found, path = place.mlflow_uri.partition(":///")
    if found and scheme.startswith("sqlite"):
        remedy = "set MLFLOW_TRACKING_URI to a server, or to sqlite:////... on a local disk"
        refuse_sqlite_on_network(Path(path), "the MLflow database", remedy)


def _write_report(record: StudyRecord, place: StudyHome) -> Path:
    from study.analysis.traces import read_traces
    from study.reporting.html import write_report

    return write_report(record, place.report, read_traces(record, place))


def _finished(plan: Plan, ledger: Ledger, place: StudyHome) -> bool:
    """Whether nothing is left to run."""
    from study.work import WorkQueue

    return WorkQueue(plan, ledger, closed=stopped_cells(place.control)).finished()


def _record(spec: Spec, plan: Plan, ledger: Ledger, facts: Mapping[str, Any], place: StudyHome) -> StudyRecord:
    sessions = facts["sessions"]
    return StudyRecord(
        name=spec.name,
        question=spec.question,
        spec=spec.to_dict(),
        plan=plan,
        trials=tuple(_with_traceback(job, record, place) for job, record in ledger.jobs()),
        finished=_finished(plan, ledger, place),
        wall_seconds=sum(session["wall_seconds"] for session in sessions),
        cpu_seconds=sum(session["cpu_seconds"] for session in sessions),
        peak_memory_bytes=max((session["peak_memory_bytes"] for session in sessions), default=0),
        versions=facts["versions"],
        started_at=facts["started_at"],
        stopped_cells=stopped_cells(place.control),
        device_seconds=total_device_seconds(sessions),
        ended_by=facts.get("ended_by"),
        added=added_after_lock(facts),
    )


def _with_traceback(job: Job, record: TrialRecord, place: StudyHome) -> TrialRecord:
    if record.state != FAILED:
        return record
    try:
        text = (place.trial(job.folder) / "error.txt").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return record
    return replace(record, traceback=text[-MOST_TRACEBACK:])


def _check_resume(
    spec: Spec, plan: Plan, place: StudyHome, before: dict[str, Any] | None, resume: bool
) -> tuple[str, ...]:
    """Refuse what cannot be gone on with; returns what the spec adds to the one that was locked."""
    if before is None:
        if resume:
            raise StudyError(
                f"there is no study '{spec.name}' in {place.root} to resume; leave out --resume to begin it"
            )
        return ()
    if not resume:
        raise StudyError(
            f"the study '{spec.name}' was begun in {place.folder}; add --resume to go on with it (a finished one only "
            f"gets its report anew), or name=... to begin another"
        )
    return additions(spec, plan, before, where=str(place.facts))
