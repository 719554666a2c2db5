"""Arms and tasks as a study sees them: shipped by name, or the user's own by `module:name`, each with its space.

A user's arm is a function that makes an `optim.Arm` (called as `optim.build_arm` is, but for the name) with its search
space as the attribute `space`, a `search_spaces.Space`. A user's task may have one too, for its options.
"""

from __future__ import annotations

from collections.abc import Mapping

from search_spaces import ARM_SPACES, Choice, Dimension, Float, Int, Space, Value
from search_spaces.catalog import TASKS
from search_spaces.dimensions import SpaceError
from search_spaces.knobs import COMMON_KNOBS, KNOBS, NEEDED_KNOBS, check_knob, knobs_of
from study.errors import nearest
from trainables.config import ConfigError
from trainables.plugins import is_reference, load_object

TASK_PREFIX = "task."
"""Before the name of a task's option where a space searches or fixes it."""


def space_of(arm: str) -> Space:
    """The space that an arm brings.

    Raises:
        ValueError: no such arm, or one of the user's without a space or a `base_lr` in it.
    """
    if not is_reference(arm):
        if arm not in ARM_SPACES:
            raise ValueError(f"unknown arm '{arm}'; {nearest(arm, ARM_SPACES)}; one of your own reads module:name")
        return ARM_SPACES[arm]
    space = getattr(_loaded(arm, "arm"), "space", None)
    if not isinstance(space, Space):
        raise ValueError(
            f"the arm {arm} brings no search space (its attribute 'space' is {space!r}); give it a search_spaces.Space"
        )
    if "base_lr" not in {**space.dimensions, **space.fixed}:
        raise ValueError(f"the space of the arm {arm} has no base_lr; add it, every arm is searched over its peak lr")
    return space


def task_space(task: str) -> Mapping[str, Dimension]:
    """The dimensions that a user's task brings for its options, by `task.<option>`; empty for a shipped one.

    Raises:
        ValueError: no such task, or what it calls its space is no mapping of dimensions.
    """
    if not is_reference(task):
        if task not in TASKS:
            raise ValueError(f"unknown task '{task}'; {nearest(task, TASKS)}; one of your own reads module:Class")
        return {}
    space = getattr(_loaded(task, "task"), "space", {})
    if not isinstance(space, Mapping) or not all(isinstance(dim, Float | Int | Choice) for dim in space.values()):
        raise ValueError(f"the space of the task {task} must map options to dimensions, but got {space!r}")
    return {f"{TASK_PREFIX}{option}": dimension for option, dimension in space.items()}


def knobs_of_arm(arm: str) -> frozenset[str]:
    """Every hyperparameter that a study file may set for an arm."""
    space = space_of(arm)
    names = {**space.dimensions, **space.fixed}
    return frozenset([*names, *COMMON_KNOBS]) if is_reference(arm) else knobs_of(names)


def check_change(knob: str, change: Dimension | Value) -> None:
    """Refuse a change to a space that its hyperparameter cannot take; what we do not know is the user's to check.

    Raises:
        SpaceError: with the rule and the values.
    """
    if knob in KNOBS:
        check_knob(knob, change)
    if knob in NEEDED_KNOBS and isinstance(change, Float | Int | Choice) and change.when:
        raise SpaceError("no trial can do without it, so it takes no condition (when)")


def _loaded(reference: str, what: str) -> object:
    try:
        return load_object(reference, what=what)
    except ConfigError as error:
        raise ValueError(str(error)) from None
