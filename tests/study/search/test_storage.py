"""Storages by name: journal, sqlite and databases hold the same ledger; passwords stay out of what is written."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from study.errors import StudyError
from study.load import validate
from study.plan import make_plan
from study.records import COMPLETE, CONFIRM, PRUNED, Ending
from study.search import storage
from study.search.ledger import Ledger
from study.sections.storage import password_of, with_password, without_password
from study.spec import Spec

MakeEnding = Callable[..., Ending]


def _use(ledger: Ledger, make_ending: MakeEnding) -> None:
    cell = ledger._plan.cells[0]
    first, second, _ = (ledger.begin_search_trial(cell, 0) for _ in range(3))
    ledger.report(first, {1: 0.25, 2: 0.5})
    ledger.report(second, {1: 0.125})
    ledger.end(first, make_ending(COMPLETE, 0.5))
    ledger.end(second, make_ending(PRUNED, 0.125, epochs=1))
    ledger.begin_run(cell, 0, CONFIRM, ledger.record(0))


@pytest.mark.parametrize("kind", ["journal", "sqlite", "sqlite:///{folder}/other.db"])
def test_every_storage_holds_the_same(
    kind: str, tmp_path: Path, make_spec: Callable[..., Spec], make_ending: MakeEnding
) -> None:
    reference = make_spec()
    kept = Ledger(tmp_path / "reference.log", make_plan(reference), reference.search)
    _use(kept, make_ending)
    spec = make_spec(search={"trials": 3, "repeats": 2, "method": "random", "storage": kind.format(folder=tmp_path)})
    path = tmp_path / "optuna.log"
    ledger = Ledger(path, make_plan(spec), spec.search)
    _use(ledger, make_ending)
    assert ledger.records() == kept.records()
    for read_only in (True, False):
        again = Ledger(path, make_plan(spec), spec.search, read_only=read_only)
        assert again.records() == kept.records()
        assert [job.key for job in again.cut_off_jobs()] == ["lars/B64/r0/t2", "lars/B64/r0/c0"]
    _look_from_outside(kind, tmp_path, again)


def _look_from_outside(kind: str, folder: Path, ledger: Ledger) -> None:
    """What Optuna alone makes of the storage, and so optuna-dashboard, which opens it by these two classes."""
    found: BaseStorage
    if kind == "journal":
        found = JournalStorage(JournalFileBackend(str(folder / "optuna.log")))
    else:
        found = RDBStorage(f"sqlite:///{folder}/{'optuna' if kind == 'sqlite' else 'other'}.db")
    names = {study.study_name for study in optuna.get_all_study_summaries(found)}
    assert names == {"tiny/lars/B64/r0", "tiny/lars/B64/r0/confirm"}
    study = optuna.load_study(study_name="tiny/lars/B64/r0", storage=found)
    assert study.direction.name == "MAXIMIZE"
    assert [(trial.state.name, trial.value, trial.intermediate_values) for trial in study.trials] == [
        ("COMPLETE", 0.5, {1: 0.25, 2: 0.5}),
        ("PRUNED", 0.125, {1: 0.125}),
        ("RUNNING", None, {}),
    ]
    assert [trial.params for trial in study.trials] == [dict(ledger.record(number).params) for number in range(3)]
    confirm = optuna.load_study(study_name="tiny/lars/B64/r0/confirm", storage=found)
    assert [(trial.state.name, trial.params) for trial in confirm.trials] == [("RUNNING", study.trials[0].params)]


def test_sqlite_on_a_network_file_system_is_refused(
    tmp_path: Path, make_spec: Callable[..., Spec], monkeypatch: pytest.MonkeyPatch
) -> None:
    from study import mounts

    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mounts")
    (tmp_path / "mounts").write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/export {tmp_path} nfs4 rw 0 0\n")
    spec = make_spec(search={"storage": f"sqlite:///{tmp_path}/given.db"})
    with pytest.raises(StudyError, match=r"given\.db lies on a network file system \(nfs4\)"):
        Ledger(tmp_path / "optuna.log", make_plan(spec), spec.search)
    spec = make_spec(search={"storage": "sqlite"})
    with pytest.raises(
        StudyError, match=r"network file system \(nfs4\).*; use search.storage=journal or a database URL"
    ):
        Ledger(tmp_path / "optuna.log", make_plan(spec), spec.search)
    assert not (tmp_path / "optuna.db").exists()
    journal = make_spec()
    Ledger(tmp_path / "optuna.log", make_plan(journal), journal.search)  # a journal with one writer may lie there


@pytest.mark.parametrize(
    ("url", "shown", "password"),
    [
        ("postgresql://me:s3cret@host/optuna", "postgresql://me:***@host/optuna", "s3cret"),
        ("postgresql+psycopg2://me:a:b@host:5432/o?x=1", "postgresql+psycopg2://me:***@host:5432/o?x=1", "a:b"),
        ("postgresql://me@host/optuna", "postgresql://me@host/optuna", None),
        ("mysql://host/optuna", "mysql://host/optuna", None),
        ("sqlite:////data/o.db", "sqlite:////data/o.db", None),
        ("journal", "journal", None),
    ],
)
def test_passwords_in_urls(url: str, shown: str, password: str | None) -> None:
    assert without_password(url) == shown
    assert password_of(url) == password
    if password is not None:
        assert with_password(shown, password) == url
        assert with_password(shown, None) == shown.replace(":***", "")


def test_no_password_is_written(make_spec: Callable[..., Spec], monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(search={"storage": "postgresql://me:s3cret@127.0.0.1:1/optuna"})
    assert "s3cret" not in json.dumps(spec.to_dict())
    assert spec.search.storage.count("s3cret") == 1
    stored = validate(spec.to_dict(), where="study.json")
    assert stored.digest() == spec.digest()
    asked: list[str] = []
    monkeypatch.setattr(optuna.storages, "get_storage", lambda url: asked.append(url) or 1 / 0)
    monkeypatch.setenv("STUDY_STORAGE_PASSWORD", "p@ss")
    for given in (spec, stored):
        with pytest.raises(StudyError) as raised:
            storage.open_store(given.search.storage, Path("none"), read_only=True)
        assert "s3cret" not in str(raised.value)
        assert "postgresql://me:***@127.0.0.1:1/optuna" in str(raised.value)
    assert asked == ["postgresql://me:s3cret@127.0.0.1:1/optuna", "postgresql://me:p%40ss@127.0.0.1:1/optuna"]


@pytest.mark.parametrize("line", ["garbage", '{"op_code": 4}'])
@pytest.mark.parametrize("read_only", [True, False])
def test_a_damaged_journal_is_one_sentence(tmp_path: Path, line: str, read_only: bool) -> None:
    path = tmp_path / "optuna.log"
    optuna.create_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(path))))
    whole = path.read_text()
    path.write_text(f"{whole}{line}\n{whole}")
    with pytest.raises(StudyError) as raised:
        storage.open_store("journal", path, read_only=read_only)
    found = f"line {len(whole.splitlines()) + 1} is not JSON" if line == "garbage" else "KeyError: "
    assert str(raised.value).startswith(f"the journal {path} is damaged ({found}")


@pytest.mark.parametrize("kind", ["journal", "sqlite", "sqlite:///{folder}/other.db"])
def test_to_look_makes_no_storage(kind: str, tmp_path: Path) -> None:
    store = storage.open_store(kind.format(folder=tmp_path), tmp_path / "optuna.log", read_only=True)
    assert store.storage.get_all_studies() == []
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        StudyError, match=r"^the storage postgresql://me:\*\*\*@127.0.0.1:1/o does not open \("
    ) as raised:
        storage.open_store("postgresql://me:s3cret@127.0.0.1:1/o", tmp_path / "x", read_only=False)
    assert "s3cret" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own on a free port; the URL, with a password."""
    initdb = shutil.which("initdb")
    if initdb is None:
        pytest.skip("PostgreSQL is not installed here")
    pytest.importorskip("psycopg")
    folder = Path("/tmp") / f"postgres-{os.getpid()}"  # a socket path must be short
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir()
    shutil.chown(folder, "postgres") if os.getuid() == 0 else None
    who = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    (folder / "password").write_text("s3cret")
    (folder / "password").chmod(0o644)
    data = str(folder / "data")
    subprocess.run(
        [*who, initdb, "-D", data, "-U", "me", "--auth=scram-sha-256", f"--pwfile={folder}/password"],
        check=True,
        capture_output=True,
        cwd="/",
        timeout=60,
    )
    server = subprocess.Popen(
        [
            *who,
            str(Path(initdb).with_name("postgres")),
            "-D",
            data,
            "-p",
            str(port),
            "-k",
            str(folder),
            "-c",
            "fsync=off",
        ],
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            subprocess.run([sys.executable, "-c", "import time; time.sleep(0.2)"], check=True)
        yield f"postgresql://me:s3cret@127.0.0.1:{port}/postgres"
    finally:
        pid = int((folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, 2)
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_postgresql_server(
    postgres: str,
    tmp_path: Path,
    make_spec: Callable[..., Spec],
    make_ending: MakeEnding,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def spec_of(url: str) -> Spec:
        return make_spec(search={"trials": 3, "repeats": 2, "method": "random", "storage": url})

    spec = spec_of(postgres)
    ledger = Ledger(tmp_path / "optuna.log", make_plan(spec), spec.search)
    _use(ledger, make_ending)
    monkeypatch.setenv("STUDY_STORAGE_PASSWORD", "s3cret")
    stored = validate(json.loads(json.dumps(spec.to_dict())), where="study.json")
    again = Ledger(tmp_path / "optuna.log", make_plan(stored), stored.search, read_only=True)
    assert again.records() == ledger.records()
    assert not list(tmp_path.iterdir())
    wrong = spec_of(postgres.replace("s3cret", "wrong"))
    with pytest.raises(StudyError, match="password authentication failed"):
        Ledger(tmp_path / "optuna.log", make_plan(wrong), wrong.search)
