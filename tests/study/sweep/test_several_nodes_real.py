"""Sweeps on clusters of several nodes, each a real raylet on this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from ray.cluster_utils import Cluster as LoopbackCluster
from ray.util import placement_group_table

from study.coordinator import Coordinator
from study.jobs import trial_config
from study.plan import make_plan
from study.records import COMPLETE, RUNNING
from study.search.ledger import Ledger
from study.sweep.adapters import EventWire
from study.sweep.engine import Cluster, cluster

QUICK_DEATHS = {  # a dead node is noticed within seconds
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 5,
}


@pytest.fixture
def loopback() -> Iterator[LoopbackCluster]:
    """A head that takes no trials; the test adds nodes."""
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": QUICK_DEATHS}
    made = LoopbackCluster(initialize_head=True, connect=False, head_node_args=head)
    yield made
    made.shutdown()


@pytest.fixture
def raylets_of_trials(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Which raylet the process of each trial belonged to, as results come in."""
    seen: dict[str, int] = {}
    take = EventWire.on_trial_result

    def spy(self: Any, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        if (raylet := raylet_of(result["pid"])) is not None:
            seen.setdefault(trial.config["job"], raylet)
        take(self, iteration, trials, trial, result, **info)

    monkeypatch.setattr(EventWire, "on_trial_result", spy)
    return seen


def raylet_of(pid: int) -> int | None:
    """The process id of a process's raylet; None once either has gone."""
    try:
        return next((parent.pid for parent in psutil.Process(pid).parents() if parent.name() == "raylet"), None)
    except psutil.Error:
        return None


def told(sweep: Any, without_times: Any) -> tuple[Any, list[dict[str, float]]]:
    """The config of the first trial, and its reports by the last word on each epoch."""
    plan = make_plan(sweep.spec)
    job = Ledger(sweep.home.ledger, plan, sweep.spec.search).jobs()[0][0]
    latest = {report["epoch"]: without_times(report) for report in sweep.tracker.reports[job.key]}
    return trial_config(sweep.spec, plan, job), [latest[epoch] for epoch in sorted(latest)]


def test_trials_run_on_all_nodes_and_on_one_that_joins_late(
    loopback: LoopbackCluster,
    small_on: Callable[..., Any],
    raylets_of_trials: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _ in range(2):
        loopback.add_node(num_cpus=1)
    most: list[int] = []
    start = Coordinator.start_job

    def count(self: Coordinator) -> Any:
        job = start(self)
        most.append(self.running())
        return job

    def join_or_end(self: Coordinator) -> bool:
        used = len(set(raylets_of_trials.values()))
        if used == 2 and len(loopback.list_all_nodes()) == 3:
            loopback.add_node(num_cpus=1)
        return used == 3

    # endless trials, so that the first two still run when an actor of the late node is up; then the sweep ends
    monkeypatch.setattr(Coordinator, "start_job", count)
    monkeypatch.setattr(Coordinator, "stopping", join_or_end)
    with cluster(loopback.address) as on:
        assert on.given
        sweep = small_on(on, "train.epochs=1000000", "search.trials=9", "search.method=random")
        records = sweep.run()

    assert [record.state for record in records] == [RUNNING] * 3
    assert len(loopback.list_all_nodes()) == 4
    assert len(set(raylets_of_trials.values())) == 3
    assert max(most) == 3  # as many at a time as there are CPUs: the limit grew with the cluster


def test_a_two_worker_trial_spans_nodes_of_one_cpu(
    loopback: LoopbackCluster, small_on: Callable[..., Any], two_processes: Any, without_times: Any
) -> None:
    for _ in range(2):
        loopback.add_node(num_cpus=1)
    raylets: set[int] = set()

    with cluster(loopback.address) as on:
        sweep = small_on(on, "resources.workers=2", "train.epochs=6", "search.trials=1")
        watch = threading.Thread(target=watch_workers, args=(raylets, over := threading.Event()))
        watch.start()
        records = sweep.run()
        over.set()
        watch.join()
        groups = placement_group_table().values()
        assert all(group["state"] == "REMOVED" for group in groups)

    assert [record.state for record in records] == [COMPLETE] * 2
    assert len(raylets) == 2
    config, reports = told(sweep, without_times)
    assert reports == [without_times(report) for report in two_processes({**config.to_dict(), "device": "cpu"})]


def watch_workers(raylets: set[int], over: threading.Event) -> None:
    while not over.wait(0.2):
        for process in psutil.Process().children(recursive=True):
            try:
                found = raylet_of(process.pid) if "RayTrainWorker" in " ".join(process.cmdline()) else None
            except psutil.Error:
                continue
            if found is not None:
                raylets.add(found)


def test_trials_of_a_lost_node_go_on_elsewhere_from_their_checkpoints(
    loopback: LoopbackCluster,
    small_on: Callable[..., Any],
    without_times: Any,
    raylets_of_trials: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doomed = [loopback.add_node(num_cpus=1), loopback.add_node(num_cpus=1)]
    raylets = {node.all_processes["raylet"][0].process.pid: node for node in doomed}
    lost: list[str] = []
    take = Coordinator.take_reports

    def lose_node(self: Coordinator, key: str, reports: Any) -> None:
        take(self, key, reports)
        if not lost and len(self.interrupted()) == 2 and 10 <= reports[-1]["epoch"] < 60:
            lost.append(key)
            psutil.Process(raylets_of_trials[key]).kill()

    monkeypatch.setattr(Coordinator, "take_reports", lose_node)
    with cluster(loopback.address) as on:
        overrides = ("train.epochs=80", "train.checkpoint_every_epochs=1", "search.trials=2", "confirm.seeds=1")
        sweep = small_on(on, *overrides)
        records = sweep.run()

    assert lost
    assert raylets_of_trials[lost[0]] in raylets
    assert [record.state for record in records] == [COMPLETE] * 3
    plan = make_plan(sweep.spec)
    job = next(job for job, _ in Ledger(sweep.home.ledger, plan, sweep.spec.search).jobs() if job.key == lost[0])
    folder = sweep.home.trial(job.folder)
    assert "crashed, tried again" in (folder / "error.txt").read_text()
    assert len((folder / "reports.jsonl").read_text().splitlines()) == 80
    # The rest came from a checkpoint: an epoch trained again would have been told with another time.
    told = {(report["epoch"], report["epoch_seconds"]) for report in sweep.tracker.reports[job.key]}
    assert len(told) <= 80 + 1


def test_an_impossible_request_says_what_is_missing(loopback: LoopbackCluster, small_on: Callable[..., Any]) -> None:
    from study.errors import StudyError

    loopback.add_node(num_cpus=1)
    loopback.add_node(num_cpus=2)
    with cluster(loopback.address) as on:
        check: Callable[..., str] = lambda *words: refusal(on, small_on, StudyError, *words)  # noqa: E731
        # Three CPUs in all, but no node has them.
        assert "no node has that" in check("resources.cpus_per_worker=3")
        assert "has 2 CPUs" in check("resources.cpus_per_worker=3")
        assert "all nodes together hold 3" in check("resources.workers=4")
        assert "1 GPU" in check("resources.gpus_per_worker=1.0")
        assert "type A100" in check("resources.accelerator_type=A100")


def refusal(on: Cluster, small_on: Callable[..., Any], kind: type[Exception], *words: str) -> str:
    with pytest.raises(kind) as caught:
        small_on(on, *words, name=f"n{abs(hash(words))}").run()
    return str(caught.value)
