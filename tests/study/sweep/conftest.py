"""Real sweeps on a real Ray: a cluster a module, small studies on digits, and looks at what they leave behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from study.coordinator import Coordinator
from study.home import StudyHome
from study.jobs import Job
from study.load import load_study
from study.plan import make_plan
from study.progress import Progress
from study.records import Ending, TrialRecord
from study.search.ledger import Ledger
from study.spec import Spec
from study.sweep.engine import cluster, run_sweep

CPUS = 2


class QuietTracker:
    """A tracker that only remembers what it was told: MLflow has tests of its own."""

    def __init__(self) -> None:
        self.ended: dict[str, Ending] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        self.reports: dict[str, list[Mapping[str, float]]] = {}

    def begin_trial(self, job: Job, params: Mapping[str, object]) -> None: ...

    def trial_facts(self, job: Job, facts: Mapping[str, Any]) -> None:
        self.facts[job.key] = dict(facts)

    def trial_reports(self, job: Job, reports: list[Mapping[str, float]]) -> None:
        self.reports.setdefault(job.key, []).extend(reports)

    def end_trial(self, job: Job, ending: Ending) -> None:
        self.ended[job.key] = ending


@dataclass
class Sweep:
    """One sweep of a small study, run on the module's cluster."""

    spec: Spec
    home: StudyHome
    resources: Mapping[str, float]
    tracker: QuietTracker = field(default_factory=QuietTracker)

    def run(self, earlier: tuple[tuple[Job, TrialRecord], ...] = ()) -> tuple[TrialRecord, ...]:
        """Run what the ledger has open, and return all its trials."""
        plan = make_plan(self.spec)
        self.home.create()
        ledger = Ledger(self.home.ledger, plan, self.spec.search)
        coordinator = Coordinator(self.spec, plan, self.home, ledger, self.tracker, Progress(plan))  # type: ignore[arg-type]
        run_sweep(self.spec, self.home, coordinator, (*earlier, *ledger.jobs()), self.resources)
        coordinator.close()
        return ledger.records()


@pytest.fixture(scope="module")
def resources() -> Iterator[Mapping[str, float]]:
    with cluster(None, cpus=CPUS) as found:
        yield found


@pytest.fixture
def small(tmp_path: Path, resources: Mapping[str, float]) -> Callable[..., Sweep]:
    """A study of a few short trials: `small("search.trials=3", ...)`."""

    def make(*overrides: str, name: str = "small") -> Sweep:
        spec = load_study(
            "digits-warmup",
            [
                f"name={name}",
                "claims=[]",
                "arms=[lars]",
                "train.epochs=4",
                "search.trials=2",
                "search.repeats=1",
                "search.early_stopping.method=none",
                *overrides,
            ],
        )
        return Sweep(spec, StudyHome(tmp_path / "home", spec.name), resources)

    return make


def timeless(report: Mapping[str, float]) -> dict[str, float]:
    """A report without what differs from run to run."""
    return {name: value for name, value in report.items() if name not in ("epoch_seconds", "images_per_second")}


@pytest.fixture
def without_times() -> Callable[[Mapping[str, float]], dict[str, float]]:
    return timeless


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool], float], bool]:
    """Ask until yes, or until the seconds are over."""

    def ask(question: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if question():
                return True
            time.sleep(0.1)
        return question()

    return ask
