"""A sweep on Ray: a cluster (ours or a given one), one Tuner for all cells, and nothing left behind."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from types import ModuleType

from study.coordinator import Coordinator
from study.errors import StudyError
from study.home import StudyHome
from study.interrupts import aside
from study.jobs import Job
from study.records import TrialRecord
from study.spec import Spec

_ENVIRONMENT: Mapping[str, str] = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # we stop the sweep ourselves, for SIGTERM too
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a CSV, a JSON and a TensorBoard file a trial that nobody reads
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a heartbeat carries no metric
    "TUNE_GLOBAL_CHECKPOINT_S": "100000",  # a study is resumed from its ledger
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_prestart_worker_first_driver": "0",  # Tune's actors start in workers of their own; these would stand idle
    # Trials allocate and free the same large buffers each step; keeping them mapped saved 8 to 19% of a digits trial.
    # One arena: each trial trains in a thread of its own, and an arena a thread doubled a reused actor's memory.
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_ARENA_MAX": "1",
}


@contextlib.contextmanager
def cluster(address: str | None, *, cpus: int | None = None) -> Iterator[Mapping[str, float]]:
    """Connect to a Ray cluster, or start one on this machine; yields its resources and lets go of it at the end.

    Args:
        address: where the cluster is; RAY_ADDRESS where it is not given, and this machine where neither is.
        cpus: CPUs of a cluster on this machine; all that there are where it is not given.

    Raises:
        StudyError: no cluster answers at the address.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    address = address or os.environ.get("RAY_ADDRESS")
    # Ray takes SIGTERM for itself where it is started in the main thread.
    with aside(lambda: _connect(address, cpus)) as ray:
        try:
            yield dict(ray.cluster_resources())
        finally:
            ray.shutdown()


def _connect(address: str | None, cpus: int | None) -> ModuleType:
    import ray

    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StudyError(
            f"no Ray cluster could be reached{f' at {address}' if address else ''} ({text}); "
            "check --address, or leave it out to use this machine"
        ) from None
    return ray


def at_once(spec: Spec, resources: Mapping[str, float]) -> tuple[int, float]:
    """How many trials run at a time, and the GPUs that each holds.

    Raises:
        StudyError: a trial asks for more than the cluster has.
    """
    wanted = spec.resources
    gpus = resources.get("GPU", 0.0)
    gpus_each = (1.0 if gpus >= 1 else 0.0) if wanted.gpus_per_worker == "auto" else wanted.gpus_per_worker
    cpus = resources.get("CPU", 0.0)
    if wanted.cpus_per_worker > cpus or gpus_each > gpus:
        raise StudyError(
            f"a trial asks for {wanted.cpus_per_worker} CPUs and {gpus_each:g} GPUs, "
            f"but the cluster has {cpus:g} and {gpus:g}; "
            "lower resources.cpus_per_worker or resources.gpus_per_worker"
        )
    fits = math.floor(cpus / wanted.cpus_per_worker)
    if gpus_each > 0:
        fits = min(fits, math.floor(gpus / gpus_each))
    return (fits if wanted.max_concurrent == "auto" else min(fits, wanted.max_concurrent)), gpus_each


def run_sweep(
    spec: Spec,
    home: StudyHome,
    coordinator: Coordinator,
    earlier: tuple[tuple[Job, TrialRecord], ...],
    resources: Mapping[str, float],
) -> None:
    """Run every job of the study that is open, until none is left or a stop is asked for."""
    from ray import tune

    from study.sweep.adapters import EventWire, StopOnRequest, WorkSearcher
    from study.sweep.scheduler import EarlyStopping
    from study.sweep.trainable import StudyTrial

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
    concurrent, gpus = at_once(spec, resources)
    stopping = spec.search.early_stopping
    scheduler = EarlyStopping(coordinator.job, coordinator.plan.metric, stopping.method, stopping.reduction_factor)
    scheduler.replay(earlier)
    bundle = {"CPU": float(spec.resources.cpus_per_worker)} | ({"GPU": gpus} if gpus else {})
    tuner = tune.Tuner(
        tune.with_resources(StudyTrial, tune.PlacementGroupFactory([bundle])),
        tune_config=tune.TuneConfig(
            search_alg=WorkSearcher(coordinator, use_gpu=gpus > 0),
            scheduler=scheduler,
            num_samples=-1,
            max_concurrent_trials=concurrent,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name=spec.name,
            storage_path=str(home.ray),
            stop=StopOnRequest(),
            callbacks=[EventWire(coordinator)],
            failure_config=tune.FailureConfig(max_failures=spec.resources.retries),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(home.ray, ignore_errors=True)
