"""Warm start: the best point that an earlier study found for each arm, tried first in each search of this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from search_spaces import Value
from study.errors import StudyError
from study.home import StudyHome
from study.plan import Cell, Plan
from study.points import fitting
from study.records import COMPLETE, RERANK, SEARCH, StudyRecord
from study.selection import selected
from study.spec import Spec


def warm_points(spec: Spec, plan: Plan, place: StudyHome, known: Mapping[str, Any]) -> dict[str, Mapping[str, Value]]:
    """Cell -> the point that its searches try first; empty where the earlier study has nothing that fits.

    Selected by search values alone: the earlier test split tells nothing here.

    Args:
        spec: the study that is begun.
        plan: of it.
        place: its home; the earlier study lies beside it.
        known: what was found when the study was begun; later sessions keep to it.

    Raises:
        StudyError: there is no such study, or it has not one of these arms.
    """
    start = spec.search.warm_start
    if start is None:
        return {}
    missing = [cell for cell in plan.cells if cell.name not in known]
    if not missing:
        return dict(known)
    if start.study == spec.name:
        raise StudyError(f"search.warm_start.study is '{start.study}', the study itself; name an earlier one")
    from study.session import load_record

    earlier = load_record(StudyHome(place.root, start.study))
    found = {cell.name: _best(earlier, cell) for cell in missing}
    if not known and not any(found.values()):
        raise StudyError(
            f"search.warm_start: the study '{start.study}' found nothing for {', '.join(spec.arms)} that lies in this "
            "study's spaces; leave warm_start out"
        )
    return {**known, **found}


def with_warm_points(plan: Plan, points: Mapping[str, Mapping[str, Value]]) -> Plan:
    """The plan whose searches begin with these points, after those that are tried first."""
    cells = tuple(
        replace(cell, warm=(dict(points[cell.name]),)) if points.get(cell.name) else cell for cell in plan.cells
    )
    return replace(plan, cells=cells)


def _best(earlier: StudyRecord, cell: Cell) -> Mapping[str, Value]:
    same_arm = [other for other in earlier.plan.cells if other.arm == cell.arm]
    alike = [other for other in same_arm if other.block.label == cell.block.label] or same_arm
    winners = []
    for other in alike:
        searched, reruns = earlier.of_cell(other.name, SEARCH), earlier.of_cell(other.name, RERANK)
        for repeat in range(earlier.plan.repeats):
            own = [trial for trial in searched if trial.repeat == repeat]
            best = selected(own, [run for run in reruns if run.repeat == repeat], earlier.plan.rerank)
            if best is not None and best.state == COMPLETE:
                winners.append(best)
    if not winners:
        return {}
    return fitting(cell.space, max(winners, key=lambda trial: (trial.value or 0.0, -trial.number)).params)
