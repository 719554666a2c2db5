"""How many trials fit on the cluster at a time, packed node by node; and what is missing where none ever will.

A trial's placement group: first a bundle for the trial itself, then one for each worker where it has several. Ray
grants it whole or not at all, so trials that wait hold nothing and two studies cannot lock each other out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from study.errors import StudyError
from study.sections import ResourcesSpec
from study.text import counted

REFRESH_SECONDS = 2.0
_TRIAL_MEMORY_BYTES = float(64 << 20)  # what the actor beside a worker group reserves: a bundle needs something
_SLACK = 1e-6

Resources = Mapping[str, float]


@dataclass(frozen=True)
class Node:
    """One node: its name for people, and all its resources, taken or not."""

    name: str
    resources: Resources
    id: str = ""  # Ray's; empty for a node that is not there yet


@dataclass(frozen=True)
class Need:
    """What one trial takes."""

    workers: int
    worker: Resources  # of each worker: {"CPU": 1.0, "GPU": 0.5, "accelerator_type:A100": 0.001}

    @property
    def gpus(self) -> float:
        return self.worker.get("GPU", 0.0)

    @property
    def bundles(self) -> list[dict[str, float]]:
        """Of the trial's placement group; the first holds the trial itself."""
        if self.workers == 1:
            return [dict(self.worker)]
        return [{"memory": _TRIAL_MEMORY_BYTES}, *(dict(self.worker) for _ in range(self.workers))]


def need_of(wanted: ResourcesSpec, nodes: Sequence[Node]) -> Need:
    """What a trial of this study takes on these nodes: `auto` is a GPU a worker where any node has one."""
    gpus = wanted.gpus_per_worker
    if gpus == "auto":
        gpus = 1.0 if wanted.accelerator_type or any(node.resources.get("GPU", 0.0) >= 1 for node in nodes) else 0.0
    worker = {"CPU": float(wanted.cpus_per_worker)}
    if gpus:
        worker["GPU"] = float(gpus)
    if wanted.accelerator_type:
        # As Ray does for its own `accelerator_type`: a node has one of this resource, and it never runs out.
        worker[f"{_ACCELERATOR}{wanted.accelerator_type}"] = 0.001
    return Need(wanted.workers, worker)


def slots(node: Node, worker: Resources) -> int:
    """Workers that the node holds at a time."""
    fits = math.inf
    for name, amount in worker.items():
        there = node.resources.get(name, 0.0)
        if name == "GPU" and amount < 1:
            # A fraction never spans two GPUs: of 0.4 two fit on each.
            fits = min(fits, math.floor(there) * math.floor(1 / amount + _SLACK))
        else:
            fits = min(fits, math.floor(there / amount + _SLACK))
    return int(fits)


def capacity(need: Need, nodes: Sequence[Node]) -> int:
    """Trials that the nodes hold at a time; the workers of one trial may stand on several."""
    return sum(slots(node, need.worker) for node in nodes) // need.workers


def require_possible(need: Need, nodes: Sequence[Node]) -> None:
    """Refuse what these nodes can never hold.

    Raises:
        StudyError: what is missing, and on which node the most of it is.
    """
    if capacity(need, nodes) > 0:
        return
    asked = _words(need.worker)
    if not nodes:
        raise StudyError("the cluster has no node that is alive; start one, or leave out --address")
    total = sum(slots(node, need.worker) for node in nodes)
    if total > 0:
        raise StudyError(
            f"a trial asks for {need.workers} workers with {asked} each, but all nodes together hold {total} of them; "
            "lower resources.workers, or add nodes"
        )
    best = max(
        nodes, key=lambda node: sum(min(node.resources.get(name, 0.0) / n, 1.0) for name, n in need.worker.items())
    )
    has = _words({name: best.resources.get(name, 0.0) for name in need.worker}, best.resources)
    missing = [name for name, amount in need.worker.items() if best.resources.get(name, 0.0) < amount]
    raise StudyError(
        f"a worker asks for {asked}, but no node has that: {best.name}, the nearest, has {has}; "
        + " and ".join(_REMEDIES.get(name, _OTHER_TYPE) for name in missing)
    )


class Limit:
    """Trials at a time, looked up anew as nodes come and go.

    Args:
        wanted: the study file's own limit; `auto` takes what fits.
        need: what one trial takes.
        nodes: the nodes as they are now.
        growing: whether an autoscaler may add nodes: then one trial more waits, which is what makes it add them.
    """

    def __init__(
        self,
        wanted: ResourcesSpec,
        need: Need,
        nodes: Callable[[], Sequence[Node]],
        growing: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = math.inf if wanted.max_concurrent == "auto" else wanted.max_concurrent
        self._need = need
        self._nodes = nodes
        self._growing = growing
        self._clock = clock
        self._due = -math.inf
        self._fits = 0

    def now(self) -> int:
        """How many trials may run now."""
        if self._clock() >= self._due:
            self._fits = capacity(self._need, self._nodes()) + self._growing
            self._due = self._clock() + REFRESH_SECONDS
        return int(min(self._fits, self._most))


_ACCELERATOR = "accelerator_type:"
_REMEDIES = {"CPU": "lower resources.cpus_per_worker", "GPU": "lower resources.gpus_per_worker"}
_OTHER_TYPE = "change or leave out resources.accelerator_type"


def _words(amounts: Resources, types_of: Resources | None = None) -> str:
    """CPUs and GPUs, and of what type: those of `types_of`, else of the amounts, where these name any."""
    names_type = any(name.startswith(_ACCELERATOR) for name in amounts)
    types = sorted(name.removeprefix(_ACCELERATOR) for name in types_of or amounts if name.startswith(_ACCELERATOR))
    kind = f" of {'type ' + ' and '.join(types) if types else 'no type that Ray knows'}"
    words = [counted(amounts["CPU"], "CPU")]
    if (gpus := amounts.get("GPU")) is not None:
        words.append(counted(gpus, "GPU") + (kind if names_type and gpus else ""))
    return " and ".join(words)
