"""Resuming a study with another spec: only what adds is taken, everything else is refused with the whole difference.

What may grow: search.trials, search.repeats, confirm.seeds, arms (with their part of `space`), claims and the budget.
What is added is not what was locked: it is noted in the study's facts, in its record and in its report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from study.errors import StudyError, shown
from study.load import validate
from study.plan import Plan, make_plan
from study.spec import Spec

_MAY_GROW = "search.trials, search.repeats, confirm.seeds, arms, claims and budget may grow"


def additions(spec: Spec, plan: Plan, before: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """What this spec adds to the one that the study was begun with, a phrase each; nothing where it is the same.

    Args:
        spec: what is asked for now.
        plan: of it.
        before: the study's facts.
        where: where these facts stand, for a message.

    Raises:
        StudyError: something was changed; the message holds every difference.
    """
    if before["spec_hash"] == spec.digest():
        return ()
    old = validate(before["spec"], where=where)
    if old.digest() != before["spec_hash"]:
        raise _refusal(spec.name, ["its arms' shipped search spaces have changed", *_texts(old, spec)])
    added: list[str] = []
    changed: list[str] = []
    for path, text in _differences(old.to_dict(), spec.to_dict()):
        (added if _only_adds(path, old, spec) else changed).append(text)
    old_plan = make_plan(old)
    changed += _changed_cells(old_plan, plan) if not changed else []
    if changed:
        raise _refusal(spec.name, changed + added)
    return tuple(added)


def _refusal(name: str, differences: list[str]) -> StudyError:
    return StudyError(
        f"the study '{name}' was begun with another spec: {'; '.join(differences)}; resume it with the spec that it "
        f"began with ({_MAY_GROW}), or begin another with name=..."
    )


def _texts(old: Spec, new: Spec) -> list[str]:
    return [text for _, text in _differences(old.to_dict(), new.to_dict())]


def _differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every place where two specs differ, as (path, phrase)."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}, key=str):
            inner = f"{path}.{key}" if path else str(key)
            if key not in old:
                yield inner, f"{inner} is new: {shown(new[key])}"
            elif key not in new:
                yield inner, f"{inner} was {shown(old[key])} and is gone"
            else:
                yield from _differences(old[key], new[key], inner)
    elif old != new:
        yield path, _phrase(path, old, new)


def _phrase(path: str, old: Any, new: Any) -> str:
    if isinstance(old, list) and isinstance(new, list) and all(item in new for item in old) and len(new) > len(old):
        more = [item.get("id", item) if isinstance(item, dict) else item for item in new if item not in old]
        return f"{path} has {', '.join(map(str, more))} as well"
    return f"{path} was {shown(old)} and is now {shown(new)}"


def _only_adds(path: str, old: Spec, new: Spec) -> bool:
    arms = set(new.arms) - set(old.arms)
    match path.split("."):
        case ["search", "trials"]:
            return new.search.trials != "auto" and (
                old.search.trials == "auto" or new.search.trials > old.search.trials
            )
        case ["search", "repeats"]:
            return new.search.repeats > old.search.repeats
        case ["confirm", "seeds"]:
            return new.confirm.seeds > old.confirm.seeds
        case ["arms"]:
            return set(new.arms) > set(old.arms)
        case ["claims"]:
            return all(claim in new.claims for claim in old.claims)
        case ["space", arm, *_] | ["search", "try_first", arm, *_]:
            return arm in arms
        case ["budget", "wall"]:
            return new.budget.wall_seconds is None or (new.budget.wall_seconds >= (old.budget.wall_seconds or 1e99))
        case ["budget", "device_hours"]:
            return new.budget.device_hours is None or (new.budget.device_hours >= (old.budget.device_hours or 1e99))
    return False


def _changed_cells(old: Plan, new: Plan) -> Iterator[str]:
    """Cells that came out otherwise although no key of theirs was changed: a new arm's warm-up can move the rungs."""
    there = {cell.name: cell for cell in new.cells}
    for cell in old.cells:
        now = there.get(cell.name)
        if now is None:
            yield f"cell {cell.name} is gone"
        elif now.block.rungs != cell.block.rungs:
            yield (
                f"the rungs of block {cell.block.label} were {list(cell.block.rungs)} and would be "
                f"{list(now.block.rungs)} with the added arms"
            )
            return
        elif (now.block, now.space, now.points) != (cell.block, cell.space, cell.points) or now.trials < cell.trials:
            yield f"cell {cell.name} would be another"
