"""Where checkpoints lie: shared folders as they are, URLs mirrored, and nothing lost between the two."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from study.errors import StudyError
from study.home import StudyHome
from study.storage import Mirror, SharedFolder, Storage, below, checkpoint_folder, drop, open_url, storage_of


@pytest.fixture
def home(tmp_path: Path) -> StudyHome:
    return StudyHome(tmp_path / "home", "tiny")


def test_without_storage_checkpoints_lie_with_the_trial(home: StudyHome) -> None:
    place = Storage(home, None, "abc").of_trial("lars_r0_t0")
    assert Path(place) == home.trial("lars_r0_t0") / "checkpoints"
    assert checkpoint_folder(place) == SharedFolder(place)


def test_studies_of_one_name_do_not_meet(home: StudyHome, tmp_path: Path) -> None:
    first, second = (Storage(home, str(tmp_path / "shared"), study_id * 8) for study_id in "ab")
    assert first.of_trial("t0") != second.of_trial("t0")
    assert Path(first.of_trial("t0")).is_relative_to(tmp_path / "shared")


def test_the_options_of_a_url_stay_at_its_end(home: StudyHome) -> None:
    options = "endpoint_override=127.0.0.1:9000&scheme=http"
    storage = Storage(home, f"s3://bucket/folder/?{options}", "0123456789")
    assert storage.root == f"s3://bucket/folder/tiny-01234567?{options}"
    assert storage.of_trial("t0") == f"s3://bucket/folder/tiny-01234567/t0/checkpoints?{options}"
    # a question mark is nothing special in a folder
    assert below("/shared/what?", "t0") == "/shared/what?/t0"


def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/bucket"


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_a_mirror_brings_back_what_was_saved(scheme: str, tmp_path: Path) -> None:
    place = f"{scheme}://{tmp_path}/bucket/trial"
    writer = Mirror(place)
    local = writer.open()
    assert list(local.iterdir()) == []
    (local / "epoch-000001-aa.pt").write_bytes(b"one")
    writer.saved()
    (local / "epoch-000002-bb.pt").write_bytes(b"two")
    (local / "epoch-000003-cc.tmp").write_bytes(b"half")
    writer.saved()
    (local / "epoch-000001-aa.pt").unlink()
    (local / "epoch-000003-cc.pt").write_bytes(b"three")
    writer.saved()
    writer.close()
    assert not local.exists()

    reader = pickle.loads(pickle.dumps(Mirror(place)))
    found = reader.open()
    assert {path.name: path.read_bytes() for path in found.iterdir()} == {
        "epoch-000002-bb.pt": b"two",
        "epoch-000003-cc.pt": b"three",
    }
    reader.close()
    drop(place)
    again = Mirror(place)
    assert list(again.open().iterdir()) == []
    again.close()


def test_an_upload_comes_before_the_deletion(tmp_path: Path) -> None:
    """A process that dies in between leaves the older checkpoint."""
    mirror = Mirror(url(tmp_path))
    local = mirror.open()
    (local / "old.pt").write_bytes(b"old")
    mirror.saved()
    (local / "old.pt").unlink()
    (local / "new.pt").mkdir()  # cannot be read
    with pytest.raises(IsADirectoryError):
        mirror.saved()
    mirror.close()
    assert [path.name for path in (tmp_path / "bucket").iterdir()] == ["old.pt"]


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(StudyError, match=r"neither pyarrow \(.*nosuch.*\) nor fsspec \(.*not known.*\) can open it"):
        open_url("nosuch://place/folder")


def test_close_takes_away_only_what_is_empty(home: StudyHome, tmp_path: Path) -> None:
    storage = Storage(home, str(tmp_path / "shared"), "0123456789")
    for name in ("a", "b"):
        Path(storage.of_trial(name)).mkdir(parents=True)
        (Path(storage.of_trial(name)) / "epoch-1.pt").write_bytes(b"x")
    storage.drop("a")
    storage.close()
    assert not Path(storage.of_trial("a")).parent.exists()
    assert Path(storage.of_trial("b")).exists()
    storage.drop("b")
    storage.close()
    assert list((tmp_path / "shared").iterdir()) == []


def test_a_resumed_study_finds_its_storage(home: StudyHome, tmp_path: Path) -> None:
    facts: dict[str, object] = {"id": "0123456789"}
    begun = storage_of(home, str(tmp_path / "shared"), facts)
    assert storage_of(home, None, facts) == begun
    assert storage_of(home, str(tmp_path / "shared"), facts) == begun
    with pytest.raises(StudyError, match="was begun with --storage"):
        storage_of(home, "s3://elsewhere", facts)
    with pytest.raises(StudyError, match="checkpoints in its home"):
        storage_of(home, "s3://elsewhere", {"id": "0123456789", "storage": None})
