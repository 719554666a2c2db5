"""How many trials fit, against packings counted by hand and by brute force."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.errors import StudyError
from study.sections import ResourcesSpec
from study.sweep.capacity import Limit, Need, Node, capacity, need_of, require_possible, slots


def node(name: str = "n", **resources: float) -> Node:
    return Node(name, {"memory": 1e9, **resources})


def spec(**given: object) -> ResourcesSpec:
    return ResourcesSpec.model_validate(given)


@pytest.mark.parametrize(
    ("worker", "there", "expected"),
    [
        ({"CPU": 1.0}, {"CPU": 2.0}, 2),
        ({"CPU": 3.0}, {"CPU": 8.0}, 2),
        ({"CPU": 1.0, "GPU": 1.0}, {"CPU": 16.0, "GPU": 4.0}, 4),
        ({"CPU": 8.0, "GPU": 1.0}, {"CPU": 16.0, "GPU": 4.0}, 2),
        ({"CPU": 1.0, "GPU": 0.25}, {"CPU": 16.0, "GPU": 2.0}, 8),
        ({"CPU": 1.0, "GPU": 0.4}, {"CPU": 16.0, "GPU": 2.0}, 4),  # two on each GPU: none spans two
        ({"CPU": 1.0, "GPU": 0.1}, {"CPU": 16.0, "GPU": 1.0}, 10),  # and rounding costs none
        ({"CPU": 1.0, "GPU": 1.0}, {"CPU": 16.0}, 0),
        ({"CPU": 1.0, "GPU": 1.0, "accelerator_type:A100": 0.001}, {"CPU": 4.0, "GPU": 2.0}, 0),
        (
            {"CPU": 1.0, "GPU": 1.0, "accelerator_type:A100": 0.001},
            {"CPU": 4.0, "GPU": 2.0, "accelerator_type:A100": 1.0},
            2,
        ),
    ],
)
def test_slots_of_a_node(worker: dict[str, float], there: dict[str, float], expected: int) -> None:
    assert slots(node(**there), worker) == expected


@given(st.integers(1, 12), st.integers(0, 8), st.integers(1, 6), st.sampled_from([1, 2, 3, 4, 5, 8, 10]))
def test_fractions_of_gpus_fill_whole_gpus(cpus: int, gpus: int, cpus_each: int, share: int) -> None:
    """Brute force: put one worker after another on the first GPU that still has room, in exact arithmetic."""
    free = [Fraction(1)] * gpus
    left, placed = cpus, 0
    while left >= cpus_each and any(gpu >= Fraction(1, share) for gpu in free):
        index = next(i for i, gpu in enumerate(free) if gpu >= Fraction(1, share))
        free[index] -= Fraction(1, share)
        left, placed = left - cpus_each, placed + 1
    assert slots(node(CPU=float(cpus), GPU=float(gpus)), {"CPU": float(cpus_each), "GPU": 1 / share}) == placed


def test_capacity_is_of_nodes_and_not_of_totals() -> None:
    three_of_one = [node(CPU=1.0)] * 3
    assert capacity(Need(1, {"CPU": 2.0}), three_of_one) == 0
    assert capacity(Need(2, {"CPU": 1.0}), three_of_one) == 1  # two nodes for a trial, the third is left over
    assert capacity(Need(3, {"CPU": 1.0}), three_of_one) == 1
    assert capacity(Need(1, {"CPU": 2.0}), [node(CPU=3.0), node(CPU=3.0)]) == 2


def test_bundles_leave_the_cpus_to_the_workers() -> None:
    assert Need(1, {"CPU": 2.0}).bundles == [{"CPU": 2.0}]
    first, *rest = Need(2, {"CPU": 2.0, "GPU": 1.0}).bundles
    assert set(first) == {"memory"}
    assert rest == [{"CPU": 2.0, "GPU": 1.0}] * 2


@pytest.mark.parametrize(
    ("given_spec", "nodes", "expected"),
    [
        ({}, [node(CPU=2.0)], {"CPU": 1.0}),
        ({}, [node(CPU=2.0), node(CPU=2.0, GPU=1.0)], {"CPU": 1.0, "GPU": 1.0}),
        ({"gpus_per_worker": 0.0}, [node(CPU=2.0, GPU=1.0)], {"CPU": 1.0}),
        ({"gpus_per_worker": 0.5}, [node(CPU=2.0)], {"CPU": 1.0, "GPU": 0.5}),
        (
            {"accelerator_type": "H100"},
            [node(CPU=2.0)],
            {"CPU": 1.0, "GPU": 1.0, "accelerator_type:H100": 0.001},
        ),
    ],
)
def test_what_a_trial_needs(given_spec: dict[str, object], nodes: Sequence[Node], expected: dict[str, float]) -> None:
    assert need_of(spec(**given_spec), nodes).worker == expected


@pytest.mark.parametrize(
    ("given_spec", "nodes", "says"),
    [
        ({"cpus_per_worker": 3}, [node("a", CPU=1.0), node("b", CPU=2.0)], "b, the nearest, has 2 CPUs"),
        ({"cpus_per_worker": 3}, [node("a", CPU=2.0)], "lower resources.cpus_per_worker"),
        ({"workers": 5}, [node(CPU=2.0)] * 2, "hold 4 of them"),
        ({"gpus_per_worker": 1.0}, [node(CPU=2.0)], "has 2 CPUs and 0 GPUs; lower resources.gpus_per_worker"),
        (
            {"accelerator_type": "A100"},
            [node(**{"CPU": 2.0, "GPU": 1.0, "accelerator_type:T4": 1.0})],
            "asks for 1 CPU and 1 GPU of type A100, but .* has 2 CPUs and 1 GPU of type T4; change or leave out "
            "resources.accelerator_type$",
        ),
        ({"accelerator_type": "A100"}, [node(CPU=2.0, GPU=8.0)], "8 GPUs of no type that Ray knows; change"),
        (
            {"accelerator_type": "A100"},
            [node(CPU=2.0)],
            "has 2 CPUs and 0 GPUs; lower resources.gpus_per_worker and change or leave out",
        ),
        ({}, [], "no node that is alive"),
    ],
)
def test_what_is_impossible_says_what_is_missing(
    given_spec: dict[str, object], nodes: Sequence[Node], says: str
) -> None:
    with pytest.raises(StudyError, match=says):
        require_possible(need_of(spec(**given_spec), nodes), nodes)


def test_the_limit_follows_the_cluster() -> None:
    nodes, now = [node(CPU=2.0)], [0.0]
    need = Need(1, {"CPU": 1.0})
    limit = Limit(spec(), need, lambda: nodes, growing=False, clock=lambda: now[0])
    assert limit.now() == 2
    nodes.append(node(CPU=3.0))
    assert limit.now() == 2  # looked up a moment ago
    now[0] += 10
    assert limit.now() == 5
    del nodes[0]
    now[0] += 10
    assert limit.now() == 3
    bounded = Limit(spec(max_concurrent=2), need, lambda: nodes, growing=False)
    assert bounded.now() == 2
    # One more waits where an autoscaler would bring a node for it.
    assert Limit(spec(), need, lambda: nodes, growing=True).now() == 4


@pytest.mark.parametrize(
    ("given_spec", "says"),
    [
        ({"workers": 2, "gpus_per_worker": 0.5}, "cannot share a GPU"),
        ({"gpus_per_worker": 2.0}, "one GPU at most"),
        ({"accelerator_type": "A100", "gpus_per_worker": 0.0}, "asks for a GPU"),
        ({"workers": 0}, "greater than or equal to 1"),
    ],
)
def test_contradictions_in_the_study_file(given_spec: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        spec(**given_spec)
