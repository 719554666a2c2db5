"""Real sweeps on a real Ray: a cluster a module, small studies on digits, and looks at what they leave behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from study import interrupts
from study.coordinator import Coordinator
from study.home import StudyHome
from study.jobs import Job
from study.load import load_study
from study.plan import make_plan
from study.progress import Progress
from study.records import COMPLETE, SEARCH, Ending, TrialRecord
from study.search.ledger import Ledger
from study.spec import Spec
from study.storage import Storage
from study.sweep.engine import Cluster, cluster, run_sweep

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

    def end_trial(self, job: Job, ending: Ending, artifacts: Sequence[Path] = ()) -> None:
        self.ended[job.key] = ending


@dataclass
class Sweep:
    """One sweep of a small study, run on the cluster that is connected."""

    spec: Spec
    home: StudyHome
    on: Cluster
    storage: str | None = None
    tracker: QuietTracker = field(default_factory=QuietTracker)

    def run(self, earlier: tuple[tuple[Job, TrialRecord], ...] = ()) -> tuple[TrialRecord, ...]:
        """Run what the ledger has open, and return all its trials."""
        plan = make_plan(self.spec)
        self.home.create()
        ledger = Ledger(self.home.ledger, plan, self.spec.search)
        storage = Storage(self.home, self.storage, "0123456789abcdef")
        coordinator = Coordinator(
            self.spec,
            plan,
            self.home,
            ledger,
            self.tracker,  # type: ignore[arg-type]
            Progress(plan),
            storage=storage,
        )
        run_sweep(self.spec, storage, coordinator, (*earlier, *ledger.jobs()), self.on)
        coordinator.close()
        return ledger.records()


@pytest.fixture(scope="module")
def machine() -> Iterator[Cluster]:
    """A cluster of this machine alone, for the module."""
    with cluster(None, cpus=CPUS) as found:
        yield found


def small_study(folder: Path, on: Cluster, *overrides: str, name: str = "small", storage: str | None = None) -> Sweep:
    """A sweep of a few short trials."""
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
    return Sweep(spec, StudyHome(folder / "home", spec.name), on, storage)


@pytest.fixture
def small(tmp_path: Path, machine: Cluster) -> Callable[..., Sweep]:
    """A study of a few short trials: `small("search.trials=3", ...)`."""
    return partial(small_study, tmp_path, machine)


@pytest.fixture
def small_on(tmp_path: Path) -> Callable[..., Sweep]:
    """The same on a cluster that the test has: `small_on(cluster, "search.trials=3", ...)`."""
    return partial(small_study, tmp_path)


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


def hundred_unbeatable(plan: Any, rung: int) -> tuple[tuple[Job, TrialRecord], ...]:
    """Trials of the first search that nobody can match: whoever comes to the rung after them is stopped."""
    cell = plan.cells[0]
    found = []
    for index in range(100):
        job = Job(10_000 + index, cell, 0, SEARCH, 10_000 + index, {}, 0)
        record = TrialRecord(
            number=job.number,
            cell=cell.name,
            arm=cell.arm,
            block=cell.block.label,
            repeat=0,
            phase=SEARCH,
            index=job.index,
            state=COMPLETE,
            params={},
            seed=0,
            epochs=4,
            value=2.0,
            curve={rung: 2.0},
            metrics={},
            reason=None,
            wall_seconds=1.0,
        )
        found.append((job, record))
    return tuple(found)


@pytest.fixture
def unbeatable() -> Callable[..., tuple[tuple[Job, TrialRecord], ...]]:
    """Earlier trials that make every later one stop: `sweep.run(earlier=unbeatable(plan, rung=2))`."""
    return hundred_unbeatable


@pytest.fixture
def run_until_stopped() -> Callable[[Sweep], tuple[TrialRecord, ...]]:
    """Run a sweep whose process gets SIGTERM once its first trial has reported: what its ledger holds then."""

    def run(sweep: Sweep) -> tuple[TrialRecord, ...]:
        reports = sweep.home.trial("lars_B1077_r0_t0") / "reports.jsonl"

        def ask_to_stop() -> None:
            deadline = time.monotonic() + 120
            while not reports.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGTERM)

        with interrupts.handled(), interrupts.patient():
            real_end, interrupts._end_hard = interrupts._end_hard, lambda: None
            thread = threading.Thread(target=ask_to_stop)
            thread.start()
            try:
                cut = sweep.run()
            finally:
                thread.join()
                interrupts._end_hard = real_end
        interrupts._requested.clear()
        return cut

    return run


TWO_PROCESSES = """
import json, os, sys
import torch.distributed as dist
from trainables.config import TrialConfig
from trainables.loop import train
rank, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
reports = []
train(TrialConfig.from_dict(json.load(open(folder + "/config.json"))), reports.append)
if rank == 0:
    json.dump(reports, open(folder + "/reports.json", "w"))
dist.destroy_process_group()
os._exit(0)  # threads of gloo may abort an orderly end of the interpreter
"""


@pytest.fixture
def two_processes(tmp_path: Path) -> Callable[[Mapping[str, Any]], list[dict[str, float]]]:
    """The reports of a two-worker config, trained by two plain processes without Ray."""

    def run(config: Mapping[str, Any]) -> list[dict[str, float]]:
        (tmp_path / "config.json").write_text(json.dumps(config))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-c", TWO_PROCESSES]
        both = [subprocess.Popen([*command, str(rank), str(port), str(tmp_path)]) for rank in (0, 1)]
        assert [process.wait(240) for process in both] == [0, 0]
        return json.loads((tmp_path / "reports.json").read_text())

    return run
