"""What a node is asked before the first trial: each fault in one clause."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from study import preflight
from study.errors import StudyError
from study.preflight import Demand, require_storage
from trainables.config import DataConfig


@pytest.fixture
def demand(tmp_path: Path) -> Demand:
    data = asdict(DataConfig())
    return Demand(preflight.versions(), [], [data], cuda=False, storage=str(tmp_path / "shared"), token="abc")


def test_a_fit_node_leaves_a_token_that_others_see(demand: Demand) -> None:
    assert preflight.fault(demand, "node1", trains=True) is None
    assert preflight.unseen(demand, ["node1", "node2"]) == ["node2"]
    assert preflight.fault(demand, "node2", trains=False) is None
    assert preflight.unseen(demand, ["node1", "node2"]) == []
    preflight.clear(demand, ["node1", "node2", "node3"])
    assert preflight.unseen(demand, ["node1"]) == ["node1"]
    assert list(Path(demand.storage).iterdir()) == []


def test_tokens_by_url(demand: Demand, tmp_path: Path) -> None:
    there = replace(demand, storage=f"file://{tmp_path}/bucket")
    assert preflight.fault(there, "node1", trains=False) is None
    assert preflight.unseen(there, ["node1", "node2"]) == ["node2"]
    preflight.clear(there, ["node1"])
    assert list((tmp_path / "bucket").iterdir()) == []


def test_other_versions_are_named_with_the_driver_s(demand: Demand) -> None:
    other = replace(demand, versions={**demand.versions, "torch": "0.4.1"})
    found = preflight.fault(other, "node1", trains=True)
    assert found is not None
    assert f"torch {demand.versions['torch']} (the driver has 0.4.1)" in found
    assert not Path(demand.storage).exists()


def test_a_part_of_the_user_s_that_cannot_be_imported_there(
    demand: Demand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needy_model.py").write_text("import not_installed_here\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    lacking = replace(demand, own=[("model", "needy_model:small")])
    found = preflight.fault(lacking, "node1", trains=True)
    assert found is not None
    assert "model 'needy_model:small': needy_model imports 'not_installed_here', which is not installed" in found
    assert preflight.fault(lacking, "node1", trains=False) is None


def test_missing_data_matters_only_where_training_is(demand: Demand, tmp_path: Path) -> None:
    lacking = replace(demand, data=[asdict(DataConfig(name="cifar10", root=str(tmp_path / "nowhere")))])
    found = preflight.fault(lacking, "node1", trains=True)
    assert found is not None
    assert str(tmp_path / "nowhere") in found
    assert preflight.fault(lacking, "node1", trains=False) is None


def test_a_gpu_that_torch_does_not_see(demand: Demand, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = preflight.fault(replace(demand, cuda=True), "node1", trains=True)
    assert found is not None
    assert "torch sees none" in found


def test_storage_that_cannot_be_written(demand: Demand) -> None:
    found = preflight.fault(replace(demand, storage="/proc/nowhere"), "node1", trains=False)
    assert found is not None
    assert "cannot write to /proc/nowhere" in found


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_storage_that_takes_files_is_left_as_it_was(scheme: str, tmp_path: Path) -> None:
    require_storage(f"{scheme}{tmp_path}/shared/small")
    assert list((tmp_path / "shared" / "small").iterdir()) == []


@pytest.mark.parametrize(
    ("storage", "says"),
    [
        ("/proc/nowhere", "No such file or directory"),
        ("file:///proc/nowhere", "No such file or directory"),
        ("nosuch://bucket/folder", "Protocol not known: nosuch"),
        ("http://127.0.0.1:1/folder", "NotImplementedError"),  # fsspec's reads only
    ],
)
def test_a_storage_that_takes_none_is_refused_in_one_sentence(storage: str, says: str) -> None:
    with pytest.raises(StudyError) as caught:
        require_storage(storage)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"this machine cannot write to {storage} (")
    assert says in line


def test_a_storage_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(preflight, "open_url", lambda url: released.wait(60))
    monkeypatch.setattr(preflight, "STORAGE_SECONDS", 0.05)
    with pytest.raises(StudyError, match="had no answer from nosuch://bucket within 0 s"):
        require_storage("nosuch://bucket")
    released.set()
