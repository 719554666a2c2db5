"""The doctor's checks, each in a sound and in a sick place."""

from __future__ import annotations

import shutil
import socket
import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from study import checks
from study.checks import FAIL, OK, WARN, Finding
from study.doctor import finding_text, main
from study.home import StudyHome
from study.sections import DataSpec
from study.spec import Spec


def levels(findings: Iterator[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def test_packages_as_pinned(tmp_path: Path) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text(f"torch=={metadata.version('torch')}\nnot-ours==1.0\n")
    found = list(checks.python_and_packages(pins))
    assert [finding.level for finding in found] == [OK, OK]
    assert "as pinned" in found[1].text


def test_other_versions_than_the_pinned_ones(tmp_path: Path) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text("torch==1.0.0\n")
    *_, found = checks.python_and_packages(pins)
    assert found.level == WARN
    assert f"torch {metadata.version('torch')} (pinned 1.0.0)" in found.text


@pytest.mark.parametrize("what", ["missing", "old"])
def test_a_package_that_does_not_do(what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    true = metadata.version

    def version(name: str) -> str:
        if name == "optuna" and what == "missing":
            raise metadata.PackageNotFoundError(name)
        return "0.9" if name == "optuna" else true(name)

    monkeypatch.setattr(metadata, "version", version)
    (bad,) = [finding for finding in checks.python_and_packages(tmp_path / "none") if finding.level == FAIL]
    assert bad.what == "optuna"
    assert bad.text == ("is not installed" if what == "missing" else "0.9, but >=5.0 is needed")
    assert "pip install" in bad.remedy


@pytest.mark.parametrize(
    ("version", "bounds", "within"),
    [
        ("2.60.0", "<2.61,>=2.60", True),
        ("2.61", "<2.61,>=2.60", False),
        ("2.9", ">=2.11", False),
        ("2.11", ">=2.11.0", True),
        ("2.15.0+cu130", ">=2.11", True),
        ("1.0", "", True),
    ],
)
def test_bounds(version: str, bounds: str, within: bool) -> None:
    assert checks._within(version, bounds) is within


def test_devices() -> None:
    found = list(checks.devices())
    assert [finding.what for finding in found][:2] == ["cpu", "gpu"]
    assert FAIL not in [finding.level for finding in found]


@pytest.mark.parametrize(("free", "level"), [(1 << 34, OK), (2 << 30, WARN), (1 << 29, FAIL)])
def test_memory(free: int, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free, total=1 << 35))
    (found,) = checks.memory()
    assert (found.level, bool(found.remedy)) == (level, level != OK)


@pytest.mark.parametrize(("free", "level"), [(1 << 40, OK), (1 << 30, WARN), (1 << 20, FAIL)])
def test_disk(free: int, level: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, free))
    assert levels(checks.home_folder(StudyHome(tmp_path / "not" / "there", "x"))) == [level]
    assert list(tmp_path.iterdir()) == []


def test_a_home_on_a_network_file_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("study.mounts.file_system", lambda path: "nfs4")
    found = next(checks.home_folder(StudyHome(tmp_path, "x")))
    assert found.level == WARN
    assert "network file system (nfs4)" in found.text


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    (found,) = checks.home_folder(StudyHome(file / "studies", "x"))
    assert (found.level, found.what) == (FAIL, "home")


def test_data_that_is_there_and_data_that_is_not(make_spec: Callable[..., Spec], tmp_path: Path) -> None:
    (found,) = checks.data_sets(make_spec())
    assert (found.level, found.text) == (OK, "digits: 1,797 images, 10 classes")
    sick = SimpleNamespace(data_sets=[DataSpec(name="cifar10")])
    (found,) = checks.data_sets(sick)  # type: ignore[arg-type]
    assert found.level == FAIL
    assert "cifar10 needs data.root" in found.text


def test_mlflow_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    assert levels(checks.mlflow_store(f"sqlite:///{path}")) == [OK]
    assert not path.exists()
    path.write_bytes(b"this is no database, whatever its name says" * 100)
    assert levels(checks.mlflow_store(f"sqlite:///{path}")) == [FAIL]
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("create table experiments (name text)")
    assert levels(checks.mlflow_store(f"sqlite:///{path}")) == [OK]


def test_mlflow_behind_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://user:secret@127.0.0.1:{server.getsockname()[1]}"
        (alive,) = checks.mlflow_store(uri)
    (dead,) = checks.mlflow_store(uri)
    assert (alive.level, dead.level) == (OK, WARN)
    assert "secret" not in alive.text + dead.text
    assert levels(checks.mlflow_store("file:/somewhere")) == [WARN]


def test_a_check_that_breaks_ends_nothing() -> None:
    def broken() -> Iterator[Finding]:
        raise RuntimeError("no\nluck")

    found = list(checks.run_checks([("gpu", broken), ("cpu", lambda: iter([Finding(OK, "cpu", "2")]))]))
    assert [finding.level for finding in found] == [FAIL, OK]
    assert "no luck" in found[0].text


@pytest.mark.parametrize(("level", "code"), [(OK, 0), (WARN, 0), (FAIL, 1)])
def test_exit_codes(
    level: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(checks, "run_checks", lambda _: iter([Finding(OK, "a", "b"), Finding(level, "gpu", "x", "y")]))
    assert main(["--home", str(tmp_path)]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"{level:<6}gpu       x; y"
    assert lines[2] == ("something has to be mended first" if code else "ready: python -m study.run")


def test_a_study_whose_plan_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(checks, "run_checks", lambda _: iter(()))
    assert main(["train.batch_size=5000"]) == 1
    assert "fail  study     train.batch_size must be at most" in capsys.readouterr().out


def test_long_findings_are_wrapped() -> None:
    lines = finding_text(Finding(WARN, "data", "word " * 40, "mend it")).splitlines()
    assert len(lines) > 1
    assert all(len(line) <= 100 for line in lines)
    assert all(line.startswith(" " * 16) for line in lines[1:])
