"""How far a study is, in numbers: by cell trials by state, best search value, and spend against plan.

Device-hours are a trial's wall time times the devices that it holds: GPUs, or workers where it has none.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.plan import Cell
from study.records import (
    AUDIT,
    COMPLETE,
    CONFIRM,
    DIVERGED,
    FAILED,
    PRUNED,
    RERANK,
    RUNNING,
    SEARCH,
    StudyRecord,
    TrialRecord,
)

TO_COME = "to come"
SEARCHING = "searching"
RERANKING = "re-ranking"
CONFIRMING = "confirming"
AUDITING = "auditing"
WAITING = "waiting"  # begun, and nothing of it runs now
DONE = "done"
SHORT = "short"  # nothing is left to start, and a quota is not filled
STOPPED = "stopped"  # by the user

RUNS = {SEARCH: SEARCHING, RERANK: RERANKING, CONFIRM: CONFIRMING, AUDIT: AUDITING}  # phase -> what the cell does then

_SETTLED = (COMPLETE, PRUNED, DIVERGED)


@dataclass(frozen=True)
class CellOverview:
    """One cell as it stands."""

    name: str
    state: str  # one of this module's words
    searched: int  # search trials that came to a result
    search_quota: int  # as planned, and what began beyond the plan
    confirmed: int
    confirm_quota: int
    running: int
    pruned: int
    diverged: int
    failed: int
    best: float | None  # search metric at the last epoch, of the trials that trained to the end
    epochs: int  # of all trials, whatever came of them
    epochs_planned: int  # where nothing more stops early
    device_seconds: float
    device_seconds_planned: float | None  # where nothing more stops early; None before any pace is known
    seconds_left: float | None  # of trials one after the other


@dataclass(frozen=True)
class Spent:
    """What one cell has cost, of what it costs at most."""

    epochs: int
    epochs_planned: int  # where nothing more stops early
    device_seconds: float
    device_seconds_planned: float | None  # for the planned epochs, at this cell's pace; None before any is known


@dataclass(frozen=True)
class Overview:
    """All cells, and the study as a whole."""

    cells: tuple[CellOverview, ...]
    settled: int
    running: int
    trials_planned: int
    seconds_left: float | None  # at the present number of trials at once; None where nothing runs or no pace is known

    @property
    def epochs(self) -> int:
        return sum(cell.epochs for cell in self.cells)

    @property
    def epochs_planned(self) -> int:
        return sum(cell.epochs_planned for cell in self.cells)

    @property
    def device_seconds(self) -> float:
        return sum(cell.device_seconds for cell in self.cells)

    @property
    def device_seconds_planned(self) -> float | None:
        known = [cell.device_seconds_planned for cell in self.cells]
        return None if None in known else sum(value for value in known if value is not None)

    def count(self, what: str) -> int:
        """Trials over all cells: `pruned`, `diverged` or `failed`."""
        return sum(getattr(cell, what) for cell in self.cells)


def overview(record: StudyRecord) -> Overview:
    """Where a study stands; robust against one without any trial."""
    everywhere = _pace(record.trials)
    cells = tuple(_cell(record, cell, everywhere) for cell in record.plan.cells)
    running = sum(cell.running for cell in cells)
    left = [cell.seconds_left for cell in cells if cell.seconds_left is not None]
    return Overview(
        cells=cells,
        settled=sum(trial.state in _SETTLED for trial in record.trials),
        running=running,
        trials_planned=record.most_trials,
        seconds_left=sum(left) / running if running and left and everywhere else None,
    )


def devices_of(resources: object) -> float:
    """Devices that one trial holds, from the study file's `resources`."""
    if not isinstance(resources, Mapping):
        return 1.0
    workers, gpus = float(resources.get("workers", 1)), resources.get("gpus_per_worker", "auto")
    return workers * (float(gpus) if isinstance(gpus, int | float) and gpus > 0 else 1.0)


def spent_of(record: StudyRecord, cell: Cell, everywhere: float | None = None) -> Spent:
    """Epochs and device-seconds of a cell, spent and planned.

    A session notes what its trials hold, those that it cuts off included, but a kill loses the last of it; the ledger
    has the wall time of each trial that ended. Neither can be too much, so the larger counts.

    Args:
        record: the study.
        cell: one of its plan's.
        everywhere: seconds an epoch over all cells, for one that has none of its own yet.
    """
    trials = [trial for trial in record.trials if trial.cell == cell.name]
    pace, devices = _pace(trials) or everywhere, devices_of(record.spec.get("resources"))
    wall = sum(trial.wall_seconds if trial.finished else trial.epochs * (pace or 0.0) for trial in trials)
    seconds = max(wall * devices, record.device_seconds.get(cell.name, 0.0))
    epochs, planned = sum(trial.epochs for trial in trials), record.most_epochs_of(cell)
    if pace is None:
        return Spent(epochs, planned, seconds, None)
    return Spent(epochs, planned, seconds, planned * (seconds / epochs if epochs else pace * devices))


def _cell(record: StudyRecord, cell: Cell, everywhere: float | None) -> CellOverview:
    trials = [trial for trial in record.trials if trial.cell == cell.name]
    states = Counter(trial.state for trial in trials)
    search = [trial for trial in trials if trial.phase == SEARCH]
    confirm = [trial for trial in trials if trial.phase == CONFIRM]
    pace = _pace(trials) or everywhere
    spent, quotas = spent_of(record, cell, everywhere), record.quotas(cell)
    under_way = sum(trial.epochs for trial in trials if not trial.finished) * (pace or 0.0)
    best = [trial.value for trial in search if trial.state == COMPLETE and trial.value is not None]
    return CellOverview(
        name=cell.name,
        state=_state(record, cell, trials, quotas),
        searched=_settled(search),
        search_quota=quotas[SEARCH],
        confirmed=_settled(confirm),
        confirm_quota=quotas[CONFIRM],
        running=states[RUNNING],
        pruned=states[PRUNED],
        diverged=states[DIVERGED],
        failed=states[FAILED],
        best=max(best, default=None),
        epochs=spent.epochs,
        epochs_planned=spent.epochs_planned,
        device_seconds=spent.device_seconds,
        device_seconds_planned=spent.device_seconds_planned,
        seconds_left=_seconds_left(record, cell, trials, quotas, under_way, pace),
    )


def _state(record: StudyRecord, cell: Cell, trials: Sequence[TrialRecord], quotas: Mapping[str, int]) -> str:
    running = {trial.phase for trial in trials if not trial.finished}
    for phase, word in reversed(RUNS.items()):
        if phase in running:
            return word
    if all(_settled([t for t in trials if t.phase == phase]) >= quotas[phase] for phase in (SEARCH, CONFIRM)):
        return DONE
    if cell.name in record.stopped_cells:
        return STOPPED
    if record.finished:
        return SHORT
    return WAITING if trials else TO_COME


def _seconds_left(
    record: StudyRecord,
    cell: Cell,
    trials: Sequence[TrialRecord],
    quotas: Mapping[str, int],
    under_way: float,
    pace: float | None,
) -> float | None:
    if pace is None:
        return None
    starts_more = not record.finished and cell.name not in record.stopped_cells
    seconds = 0.0
    for phase, quota in quotas.items():
        own = [trial for trial in trials if trial.phase == phase]
        ended = [trial.wall_seconds for trial in own if trial.finished and trial.wall_seconds > 0]
        # A trial of this phase as they were so far, those that were stopped early among them.
        each = statistics.fmean(ended) if ended else pace * cell.block.epochs
        running = sum(not trial.finished for trial in own)
        seconds += each * max(quota - _settled(own) if starts_more else 0, running)
    return max(seconds - under_way, 0.0)


def _settled(trials: Sequence[TrialRecord]) -> int:
    return sum(trial.state in _SETTLED for trial in trials)


def _pace(trials: Sequence[TrialRecord]) -> float | None:
    """Seconds an epoch, over trials that ended."""
    ended = [trial for trial in trials if trial.finished and trial.epochs > 0 and trial.wall_seconds > 0]
    epochs = sum(trial.epochs for trial in ended)
    return sum(trial.wall_seconds for trial in ended) / epochs if epochs else None
