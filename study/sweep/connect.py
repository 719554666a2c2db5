"""A Ray cluster for a session: a given one or one on this machine, what its nodes have, and nothing left behind."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from study.errors import StudyError
from study.interrupts import aside
from study.spec import Spec
from study.sweep.capacity import Node
from study.sweep.packages import python_modules

_CONNECT_SECONDS = 5.0
_ENVIRONMENT: Mapping[str, str] = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # we stop the sweep ourselves, for SIGTERM too
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a CSV, a JSON and a TensorBoard file a trial that nobody reads
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a heartbeat carries no metric
    # Trials that Tune takes ahead of an actor. WorkSearcher keeps the limit; Tune's own, one for a searcher that is not
    # its, would start actors one after another and, where several trials end at once, throw all actors but one away.
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",
    "TUNE_GLOBAL_CHECKPOINT_S": "100000",  # a study is resumed from its ledger
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_prestart_worker_first_driver": "0",  # Tune's actors start in workers of their own; these would stand idle
}
# What the processes of trials need as well, on whatever node they are.
_OF_TRIALS: Mapping[str, str] = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a relative data.root means what it means to the driver
    # Of a worker group: what each of these would start or wait for is measured in tests/benchmarks/RESULTS.md.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    # Trials allocate and free the same large buffers each step; keeping them mapped saved 8 to 19% of a digits trial.
    # One arena: each trial trains in a thread of its own, and an arena a thread doubled a reused actor's memory.
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_ARENA_MAX": "1",
}


@dataclass(frozen=True)
class Cluster:
    """The cluster that a session runs on."""

    given: bool  # by the user; else it is this machine, for this session alone

    def nodes(self) -> list[Node]:
        """The nodes that are alive now."""
        import ray

        return [
            Node(f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})", node["Resources"], node["NodeID"])
            for node in ray.nodes()
            if node["Alive"]
        ]

    def possible_nodes(self) -> list[Node]:
        """The nodes that are alive now, and those that an autoscaler may add."""
        return self.nodes() + [
            Node(f"a node of group {group.name}", dict(group.resources))
            for group in _node_groups()
            for _ in range(_MOST_OF_A_GROUP if group.max_count < 0 else min(group.max_count, _MOST_OF_A_GROUP))
        ]

    def growing(self) -> bool:
        """Whether an autoscaler may add nodes."""
        return bool(_node_groups())


_MOST_OF_A_GROUP = 1000


@contextlib.contextmanager
def cluster(address: str | None, *, spec: Spec | None = None, cpus: int | None = None) -> Iterator[Cluster]:
    """Connect to a Ray cluster, or start one on this machine; lets go of it at the end.

    Args:
        address: where the cluster is; RAY_ADDRESS where it is not given, and this machine where neither is.
        spec: whose models, tasks and arms may be the user's own: their modules go to every node.
        cpus: CPUs of a cluster on this machine; all that there are where it is not given.

    Raises:
        StudyError: no cluster answers at the address.
    """
    for name, value in {**_ENVIRONMENT, **_OF_TRIALS}.items():
        os.environ.setdefault(name, value)
    address = address or os.environ.get("RAY_ADDRESS")
    if address == "local":
        address = None
    if address:
        require_usable(address)
    # Ray takes SIGTERM for itself where it is started in the main thread.
    with aside(lambda: _connect(address, spec, cpus)) as ray:
        try:
            yield Cluster(given=bool(address))
        finally:
            ray.shutdown()


def require_usable(address: str) -> None:
    """Refuse, at once and in one sentence, an address that Ray would take long to refuse or cannot do a study with.

    Raises:
        StudyError: it is Ray Client's or the dashboard's, malformed, or nobody listens there.
    """
    if address == "auto":
        return
    if address.startswith("ray://"):
        raise StudyError(
            f"the address {address} is of a Ray Client, which loses the whole study with its connection; submit it to "
            "the cluster instead: ray job submit --address http://HEAD:8265 -- python -m study.run ..."
        )
    if address.startswith(("http://", "https://")):
        raise StudyError(
            f"the address {address} is of Ray's dashboard, which takes jobs: ray job submit --address {address} -- "
            "python -m study.run ...; --address wants host:port of the cluster (6379), or auto"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise StudyError(f"the address '{address}' must read host:port (Ray's own port is 6379), or auto")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS):
            pass
    except (OSError, OverflowError) as error:
        raise StudyError(
            f"no Ray cluster could be reached at {address} ({getattr(error, 'strerror', None) or error}); "
            "check --address, or leave it out to use this machine"
        ) from None


def _connect(address: str | None, spec: Spec | None, cpus: int | None) -> ModuleType:
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        options |= {"address": address, "runtime_env": runtime_environment(spec)}
    else:
        options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False}
    with _native_words() if address else contextlib.nullcontext(str) as heard:
        try:
            ray.init(**options)
        except Exception as error:  # Ray raises plain ones where a node is too slow to start
            text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            if not address:
                raise StudyError(f"no Ray cluster could be started on this machine ({text})") from None
            if "InvalidAuthToken" in heard():
                raise StudyError(
                    f"the Ray cluster at {address} wants its token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN as on "
                    "its nodes, or bring their ~/.ray/auth_token"
                ) from None
            raise StudyError(
                f"no Ray cluster could be reached at {address} ({text}); check that it is one of this Ray version "
                f"({ray.__version__}) and that this machine is among its nodes"
            ) from None
    return ray


@contextlib.contextmanager
def _native_words() -> Iterator[Callable[[], str]]:
    """What Ray's native part says on stderr while the block runs: many warnings of which one sentence is to be made."""
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)

        def heard() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        try:
            yield heard
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


def runtime_environment(spec: Spec | None) -> dict[str, Any]:
    """What every process of the study gets on every node: our packages, the user's own modules, and our settings."""
    return {
        "py_modules": [str(path) for path in python_modules(spec)],
        "excludes": ["__pycache__", "*.png"],
        "env_vars": {name: os.environ[name] for name in (*_OF_TRIALS, "TUNE_DISABLE_STRICT_METRIC_CHECKING")},
    }


def _node_groups() -> list[Any]:
    from ray._private.state import state

    config = state.get_cluster_config()
    return list(config.node_group_configs) if config is not None else []
