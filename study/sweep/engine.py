"""A sweep on Ray: one Tuner for all cells of a study, on the cluster of the session."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable

from study.coordinator import Coordinator
from study.jobs import Job
from study.records import TrialRecord
from study.rungs import RungLog
from study.spec import Spec
from study.storage import Storage
from study.sweep.capacity import Limit, capacity, need_of, require_possible
from study.sweep.connect import Cluster, cluster
from study.sweep.inspection import require_fit
from study.text import counted

__all__ = ["Cluster", "cluster", "run_sweep"]


def run_sweep(
    spec: Spec,
    checkpoints: Storage,
    coordinator: Coordinator,
    earlier: tuple[tuple[Job, TrialRecord], ...],
    on: Cluster,
    say: Callable[[str], None] = print,
) -> None:
    """Run every job of the study that is open, until none is left or a stop is asked for.

    On a cluster that was given, every node is asked first whether it can do its part.

    Raises:
        StudyError: a trial asks for more than the cluster can ever hold, or a node is not fit for it.
    """
    from ray import tune

    home = checkpoints.home
    from study.sweep.adapters import EventWire, StopOnRequest, WorkSearcher
    from study.sweep.scheduler import EarlyStopping
    from study.sweep.trainable import StudyTrial

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
    need = need_of(spec.resources, on.possible_nodes())
    require_possible(need, on.possible_nodes())
    if on.given:
        nodes = on.nodes()
        say(f"  cluster  {counted(len(nodes), 'node')}, {counted(capacity(need, nodes), 'trial')} at a time")
        require_fit(nodes, need, spec, coordinator.plan, checkpoints.root)
    limit = Limit(spec.resources, need, on.nodes, growing=on.growing())
    metric, stopping = coordinator.plan.metric, spec.search.early_stopping
    scheduler = EarlyStopping(coordinator.job, metric, stopping, RungLog(home.rungs))
    scheduler.replay(earlier)
    coordinator.settle_cut_off(scheduler.stops)
    tuner = tune.Tuner(
        tune.with_resources(StudyTrial, tune.PlacementGroupFactory(need.bundles)),
        tune_config=tune.TuneConfig(
            search_alg=WorkSearcher(coordinator, need, limit, restarts=spec.resources.retries),
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name=spec.name,
            storage_path=str(home.ray),
            stop=StopOnRequest(coordinator),
            callbacks=[EventWire(coordinator)],
            failure_config=tune.FailureConfig(max_failures=spec.resources.retries),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(home.ray, ignore_errors=True)
