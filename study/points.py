"""Points that a search is given instead of sampling them: those to try first, and all points of a grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from search_spaces import Choice, Dimension, Int, Space, Value, applies
from study.errors import StudyError, nearest
from study.sections import SearchSpec
from study.sections.search import AUTOMATIC_TRIALS
from study.spec import Spec

Point = Mapping[str, Value]


def search_points(spec: Spec, arm: str, space: Space) -> tuple[int, tuple[Point, ...]]:
    """How many trials a search of the arm has, and the points that its first ones take.

    Raises:
        StudyError: the number given is not the grid's, or there are more points to try first than trials.
    """
    if spec.replay is not None:
        return int(spec.replay.phase == "search"), ()
    given = spec.search.trials
    if spec.search.method == "grid":
        points = grid_points(arm, space)
        if given not in ("auto", len(points)):
            raise StudyError(
                f"search.trials must be left out or be the size of the grid, but got {given} where arm '{arm}' has "
                f"{len(points)} points"
            )
        return len(points), points
    trials = AUTOMATIC_TRIALS if given == "auto" else given
    points = first_points(spec.search, arm, space)
    if len(points) > trials:
        raise StudyError(
            f"search.try_first has {len(points)} points for arm '{arm}', but a search has {trials} trials; "
            "raise search.trials or leave some out"
        )
    return trials, points


def grid_points(arm: str, space: Space) -> tuple[Point, ...]:
    """Every combination of the listed values, the last dimension varying fastest; where a condition does not hold, the
    dimension is left out.

    Raises:
        StudyError: a dimension is a range of real numbers.
    """
    for knob, dimension in space.dimensions.items():
        if not isinstance(dimension, Choice | Int):
            raise StudyError(
                f"search.method=grid needs listed values, but {knob} of arm '{arm}' is a range "
                f"({dimension.describe()}); write space.{arm}.{knob}={{values: [...]}}, or one value to fix it"
            )
    return tuple(_combinations(list(space.dimensions.items()), {}))


def _combinations(dimensions: list[tuple[str, Dimension]], chosen: dict[str, Value]) -> Iterator[Point]:
    if not dimensions:
        yield chosen
        return
    (knob, dimension), *rest = dimensions
    if not applies(dimension, chosen):
        yield from _combinations(rest, chosen)
        return
    values: Sequence[Value] = ()
    match dimension:
        case Choice(values=listed):
            values = listed
        case Int(low=low, high=high):
            values = range(low, high + 1)
    for value in values:
        yield from _combinations(rest, {**chosen, knob: value})


def first_points(search: SearchSpec, arm: str, space: Space) -> tuple[Point, ...]:
    """The study file's points to try first, as far as they concern the arm.

    Of a point for all arms an arm takes what it searches; a point for one arm must fit it altogether.

    Raises:
        StudyError: a knob that the arm does not search, or a value outside its range.
    """
    found = []
    for given, own in search.points_of(arm):
        point = {}
        for knob, value in given.items():
            dimension = space.dimensions.get(knob)
            if dimension is None:
                if own and space.fixed.get(knob) != value:
                    raise StudyError(
                        f"search.try_first.{arm}: the arm does not search '{knob}'; {nearest(knob, space.dimensions)}"
                    )
                continue
            if not dimension.contains(value):
                raise StudyError(
                    f"search.try_first: {knob} of arm '{arm}' is searched in {dimension.describe()}, "
                    f"but a point has {value!r}; widen the range or change the point"
                )
            point[knob] = value
        if point:
            found.append(point)
    return tuple(found)


def fitting(space: Space, params: Mapping[str, Value]) -> Point:
    """What of another study's point lies in this space."""
    return {
        knob: params[knob]
        for knob, dimension in space.dimensions.items()
        if knob in params and dimension.contains(params[knob])
    }
