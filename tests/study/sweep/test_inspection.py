"""What every node of a cluster is asked for: all that the study's trials need, each thing once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from study.load import load_study
from study.plan import make_plan
from study.preflight import Demand
from study.sweep import inspection
from study.sweep.capacity import Need, Node


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Demand]:
    """What nodes would have been asked, were there any."""
    demands: list[Demand] = []

    def note(nodes: list[Node], call: Any, complain: Any) -> None:
        _, (demand, *_), _ = call(nodes[0])
        demands.append(demand)

    monkeypatch.setattr(inspection, "_ask", note)
    monkeypatch.setattr(inspection.preflight, "unseen", lambda *given: [])
    return demands


def test_all_data_and_the_user_s_own_parts(
    asked: list[Demand], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inspected_models.py").write_text("def small(in_channels, classes, image_size): ...\n")
    (tmp_path / "inspected_tasks.py").write_text("from trainables.tasks.classification import Classification as Mine\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    overrides = ("claims=[]", "data=[{name: digits}, {name: synthetic}]", "arms=[lars, sgd]")
    own = ("model.name=inspected_models:small", "task=inspected_tasks:Mine")
    spec = load_study("digits-warmup", [*overrides, *own])
    plan = make_plan(spec)
    assert len(plan.cells) == 4

    here, shared = Node("here", {"CPU": 1.0}, "id"), str(tmp_path / "shared")
    inspection.require_fit([here], Need(1, {"CPU": 1.0}), spec, plan, shared)

    assert [data["name"] for data in asked[0].data] == ["digits", "synthetic"]
    assert asked[0].own == [("model", "inspected_models:small"), ("task", "inspected_tasks:Mine")]
