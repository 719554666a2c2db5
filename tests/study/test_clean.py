"""What `study.clean` deletes, and what it never does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
import pytest

from study.clean import main
from study.home import StudyHome
from study.records import COMPLETE, PRUNED

BeginHome = Callable[..., StudyHome]
BYTES = 1000


@pytest.fixture
def home(begin_home: BeginHome) -> StudyHome:
    """One cell with two searches of two trials, each trial with two checkpoints.

    In order of start: r0/t0 complete, r1/t0 complete, r0/t1 complete and better, its confirm run, r1/t1 stopped early,
    and the confirm run of r1/t0, which was cut off.
    """
    search = {"trials": 2, "repeats": 2, "method": "random"}
    place = begin_home([COMPLETE, COMPLETE, COMPLETE, COMPLETE, PRUNED], running=1, arms=["sgd"], search=search)
    for folder in (place.folder / "trials").iterdir():
        (folder / "checkpoints").mkdir()
        for epoch in (5, 10):
            (folder / "checkpoints" / f"epoch-{epoch:06d}-ab.pt").write_bytes(b"x" * BYTES)
    return place


def left(place: StudyHome) -> dict[str, list[int]]:
    """Trial -> epochs of its checkpoints."""
    found: dict[str, list[int]] = {}
    for path in sorted(place.folder.glob("trials/*/checkpoints/*.pt")):
        found.setdefault(path.parent.parent.name, []).append(int(path.name.split("-")[1]))
    return found


def clean(place: StudyHome, *arguments: str) -> int:
    return main(["tiny", "--home", str(place.root), *arguments])


def names(place: StudyHome) -> Sequence[str]:
    return sorted(path.name for path in place.folder.iterdir())


def test_checkpoints(home: StudyHome, capsys: pytest.CaptureFixture[str]) -> None:
    before = left(home)
    everything = names(home)
    assert clean(home, "--dry-run") == 0
    said = capsys.readouterr().out
    assert left(home) == before
    assert clean(home) == 0
    freed = sum(map(len, before.values())) - sum(map(len, left(home).values()))
    assert f"would free {freed * BYTES / 1024:.1f} KiB in {freed} files; nothing was deleted" in said
    assert capsys.readouterr().out == f"freed {freed * BYTES / 1024:.1f} KiB in {freed} files\n"
    assert left(home) == {
        "sgd_B64_r0_t1": [10],  # the winner of repeat 0
        "sgd_B64_r0_c0": [10],
        "sgd_B64_r1_t0": [10],  # the winner of repeat 1
        "sgd_B64_r1_c0": [5, 10],  # --resume goes on from them
    }
    assert names(home) == sorted({*everything, "lock"})
    assert clean(home, "--checkpoints") == 0
    assert capsys.readouterr().out == "freed 0 bytes in 0 files\n"


def test_what_a_killed_driver_left(home: StudyHome) -> None:
    home.ray.mkdir()
    (home.ray / "tuner.pkl").write_bytes(b"x")
    assert clean(home) == 0
    assert not home.ray.exists()


def test_all(home: StudyHome, capsys: pytest.CaptureFixture[str]) -> None:
    assert clean(home, "--all") == 2
    assert "there is no terminal to ask; add --yes" in capsys.readouterr().err
    assert home.facts.exists()
    assert clean(home, "--all", "--dry-run") == 0
    assert home.facts.exists()
    assert clean(home, "--all", "--yes") == 0
    assert not home.folder.exists()
    assert home.root.exists()


def test_all_takes_the_study_out_of_a_database(
    begin_home: BeginHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    optuna.create_study(study_name="another", storage=url)
    search = {"trials": 2, "repeats": 2, "method": "random", "storage": url}
    place = begin_home([COMPLETE, COMPLETE, COMPLETE], running=1, arms=["sgd"], search=search)
    assert len(optuna.get_all_study_names(url)) == 4  # two searches and a confirm run
    assert clean(place, "--all", "--dry-run") == 0
    assert len(optuna.get_all_study_names(url)) == 4
    assert clean(place, "--all", "--yes") == 0
    assert "deleted 3 Optuna studies from the database" in capsys.readouterr().out
    assert optuna.get_all_study_names(url) == ["another"]


def test_the_winner_is_the_one_that_re_ranking_chose(begin_home: BeginHome) -> None:
    """Search trials score .50, .51 and so do their fresh runs of the best two: the later, of the worse, is better."""
    search = {"trials": 2, "repeats": 1, "method": "random"}
    place = begin_home(arms=["sgd"], search=search, confirm={"seeds": 1, "rerank": 2})
    for folder in (place.folder / "trials").iterdir():
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "epoch-000010-ab.pt").write_bytes(b"x")
    assert clean(place) == 0
    assert left(place) == {"sgd_B64_r0_t0": [10], "sgd_B64_r0_c0": [10]}


def test_all_asks_on_a_terminal(home: StudyHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert clean(home, "--all") == 2
    assert home.facts.exists()
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert clean(home, "--all") == 0
    assert not home.folder.exists()


@pytest.mark.parametrize("arguments", [(), ("--dry-run",), ("--all", "--yes")])
def test_a_running_study_is_left_alone(
    home: StudyHome, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    before = left(home)
    with home.locked():
        assert clean(home, *arguments) == 2
    assert "is already running here" in capsys.readouterr().err
    assert left(home) == before


def test_what_cannot_be_deleted(
    home: StudyHome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("shutil.rmtree", refuse)
    assert clean(home) == 2
    assert "cannot be deleted (Permission denied); check its permissions" in capsys.readouterr().err
