"""Resuming with another spec: what only adds is named, anything else is refused with the whole difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from study.errors import StudyError
from study.extension import additions
from study.facts import added_after_lock, first_facts, with_additions
from study.load import validate
from study.plan import make_plan
from study.spec import Spec

BEFORE: dict[str, Any] = {
    "name": "tiny",
    "question": "which?",
    "train": {"epochs": 20, "batch_size": 64},
    "arms": ["lars", "sgd_warmup"],
    "search": {"trials": 3, "repeats": 2, "method": "random", "early_stopping": {"method": "asha"}},
    "claims": [{"id": "C1", "kind": "superior", "arm": "lars", "than": "sgd_warmup", "margin": 0.01, "why": "asked"}],
    "budget": {"wall": "1h"},
}
C2 = {"id": "C2", "kind": "superior", "arm": "sgd_warmup", "than": "lars", "margin": 0.02, "why": "asked later"}


def changed(*changes: tuple[str, Any]) -> Spec:
    import copy

    data = copy.deepcopy(BEFORE)
    for path, value in changes:
        *parents, key = path.split(".")
        place = data
        for parent in parents:
            place = place.setdefault(parent, {})
        place[key] = value
    return validate(data, where="test")


def extend(*changes: tuple[str, Any]) -> tuple[str, ...]:
    old, new = changed(), changed(*changes)
    return additions(new, make_plan(new), first_facts(old, make_plan(old)), where="study.json")


@pytest.mark.parametrize(
    ("changes", "added"),
    [
        ([], ()),
        ([("search.trials", 5)], ("search.trials was 3 and is now 5",)),
        ([("search.repeats", 3)], ("search.repeats was 2 and is now 3",)),
        ([("confirm.seeds", 2)], ("confirm.seeds was 1 and is now 2",)),
        ([("arms", ["lars", "sgd_warmup", "tvlars"])], ("arms has tvlars as well",)),
        (
            [("arms", ["lars", "sgd_warmup", "lamb"]), ("space.lamb", {"weight_decay": 0.0})],
            ("arms has lamb as well", "space.lamb is new: {'weight_decay': 0.0}"),
        ),
        ([("claims", [*BEFORE["claims"], C2])], ("claims has C2 as well",)),
        ([("budget.wall", "2h")], ("budget.wall was '1h' and is now '2h'",)),
        ([("budget.wall", None)], ("budget.wall was '1h' and is now None",)),
        (
            [("search.trials", 4), ("confirm.seeds", 3)],
            ("confirm.seeds was 1 and is now 3", "search.trials was 3 and is now 4"),
        ),
    ],
)
def test_what_only_adds(changes: list[tuple[str, Any]], added: tuple[str, ...]) -> None:
    assert extend(*changes) == added


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([("search.trials", 2)], ["search.trials was 3 and is now 2"]),
        ([("search.repeats", 1)], ["search.repeats was 2 and is now 1"]),
        ([("arms", ["lars", "tvlars"]), ("claims", [])], ["arms was", "claims was"]),
        ([("claims", [])], ["claims was"]),
        ([("claims", [{**BEFORE["claims"][0], "margin": 0.5}, C2])], ["claims was"]),
        ([("search.seed", 1)], ["search.seed was 0 and is now 1"]),
        ([("space", {"lars": {"weight_decay": 0.0}})], ["space.lars is new"]),
        (
            [("search.metric", "val/accuracy"), ("search.method", "tpe")],
            ["search.method was 'random' and is now 'tpe'"],
        ),
        ([("budget.wall", "30m")], ["budget.wall was '1h' and is now '30m'"]),
        # everything that differs is shown, also what alone would only add
        (
            [("search.trials", 9), ("train.epochs", 30), ("question", "what?")],
            ["train.epochs was 20 and is now 30", "question was 'which?' and is now 'what?'", "search.trials was 3"],
        ),
        # no key of the old arms has changed, but their rungs would
        (
            [("arms", ["lars", "sgd_warmup", "tvlars"]), ("space.tvlars", {"delay_epochs": 12.0})],
            ["the rungs of block B64 were [7] and would be [13] with the added arms"],
        ),
    ],
)
def test_what_changes_is_refused_with_the_whole_difference(changes: list[tuple[str, Any]], words: list[str]) -> None:
    with pytest.raises(StudyError) as raised:
        extend(*changes)
    for word in words:
        assert word in str(raised.value)
    assert "may grow" in str(raised.value)
    assert "name=..." in str(raised.value)


def test_shipped_spaces_that_have_changed_are_refused(make_spec: Callable[..., Spec]) -> None:
    old, new = changed(), changed(("search.trials", 4))
    facts = {**first_facts(old, make_plan(old)), "spec_hash": "another"}
    with pytest.raises(StudyError, match=r"shipped search spaces have changed; search\.trials was 3 and is now 4"):
        additions(new, make_plan(new), facts, where="study.json")


def test_the_facts_keep_the_first_lock_and_what_was_added() -> None:
    old, new = changed(), changed(("search.trials", 4))
    facts = {**first_facts(old, make_plan(old)), "reported": True}
    extended = with_additions(facts, new, make_plan(new), ("search.trials was 3 and is now 4",))
    assert extended["spec_hash"] == new.digest()
    assert extended["added"][0]["spec_hash"] == old.digest()
    assert "reported" not in extended
    assert added_after_lock(facts) == ()
    (text,) = added_after_lock(extended)
    assert text.startswith("search.trials was 3 and is now 4 (20")
