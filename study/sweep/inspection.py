"""Asks every node of a cluster, before the first trial, whether it can do its part."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from study import preflight
from study.errors import StudyError
from study.jobs import data_config
from study.plan import Plan
from study.spec import Spec
from study.sweep.capacity import Need, Node, slots
from trainables.plugins import is_reference

SECONDS = 180.0  # for a node's answer; the first import of torch from a network disk takes long


def require_fit(nodes: Sequence[Node], need: Need, spec: Spec, plan: Plan, storage: str) -> None:
    """Check imports, versions, data, device and storage on all nodes at once.

    Raises:
        StudyError: names the first node that is not fit and what it lacks.
    """
    demand = preflight.Demand(
        versions=preflight.versions(),
        own=_own(spec, plan),
        data=_data(plan),
        cuda=need.gpus > 0,
        storage=storage,
        token=uuid.uuid4().hex[:8],
    )
    training = {node.id: slots(node, need.worker) > 0 for node in nodes}
    ids = [node.id for node in nodes]
    try:
        _ask(nodes, lambda node: (preflight.fault, (demand, node.id), {"trains": training[node.id]}), _complain)
        _ask(nodes, lambda node: (preflight.unseen, (demand, ids), {}), _complain_of_unseen(nodes, storage))
        missed = preflight.unseen(demand, ids)
        if missed:
            _complain_of_unseen(nodes, storage)("this machine, where the study is driven,", missed)
    finally:
        preflight.clear(demand, ids)


def _data(plan: Plan) -> list[dict[str, Any]]:
    """Each data set once; its split does not matter here."""
    return list({cell.block.data.name: asdict(data_config(plan, cell, 0)) for cell in plan.cells}.values())


def _own(spec: Spec, plan: Plan) -> list[tuple[str, str]]:
    """The user's task, models and arms, each once."""
    named = {("task", spec.task_name)}
    named |= {pair for cell in plan.cells for pair in (("model", cell.block.model), ("arm", cell.arm))}
    return sorted((what, name) for what, name in named if is_reference(name))


def _ask(
    nodes: Sequence[Node],
    call: Callable[[Node], tuple[Callable[..., Any], Any, Any]],
    complain: Callable[[str, Any], None],
) -> None:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = []
    for node in nodes:
        function, given, named = call(node)
        place = NodeAffinitySchedulingStrategy(node.id, soft=False)
        remote = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=place)(function)
        asked.append(remote.remote(*given, **named))
    for node, answer in zip(nodes, asked, strict=True):
        try:
            found = ray.get(answer, timeout=SECONDS)
        except ray.exceptions.GetTimeoutError:
            raise StudyError(
                f"node {node.name} did not answer within {SECONDS:.0f} s; look at its load and its log"
            ) from None
        except ray.exceptions.RayError as error:
            line = str(error).strip().splitlines()[-1]
            raise StudyError(f"node {node.name} cannot run our code ({type(error).__name__}: {line})") from None
        if found:
            complain(f"node {node.name}", found)


def _complain(who: str, found: Any) -> None:
    raise StudyError(f"{who} {found}")


def _complain_of_unseen(nodes: Sequence[Node], storage: str) -> Callable[[str, Any], None]:
    names = {node.id: node.name for node in nodes}

    def complain(who: str, missed: Sequence[str]) -> None:
        raise StudyError(
            f"{who} does not see in {storage} what {names[missed[0]]} wrote there; "
            "give --storage a folder that every node shares, or a URL"
        )

    return complain
