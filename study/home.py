"""Where everything of a study lives: one home folder for all studies, one folder a study, one writer at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from study.errors import StudyError

DEFAULT_HOME = "studies"
_LOCK_ATTEMPTS = 4
_LOCK_PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class StudyHome:
    """Paths of one study. Nothing is created until `create`."""

    root: Path  # the home folder
    name: str

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def ledger(self) -> Path:
        return self.folder / "optuna.log"

    @property
    def facts(self) -> Path:
        """The study's own account of itself: spec, hash, sessions, versions."""
        return self.folder / "study.json"

    @property
    def calibration(self) -> Path:
        """What a trial costs here, measured by `python -m study.calibrate`."""
        return self.folder / "calibration.json"

    @property
    def lock(self) -> Path:
        """Held by the driver, whose process id and host stand in it."""
        return self.folder / "lock"

    @property
    def control(self) -> Path:
        """What the user asks of the driver while it runs: a line for each trial or cell to stop."""
        return self.folder / "control.jsonl"

    @property
    def rungs(self) -> Path:
        """The verdicts of early stopping, in the order that they were made."""
        return self.folder / "rungs.jsonl"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def spool(self) -> Path:
        """What MLflow could not be told yet."""
        return self.folder / "mlflow-spool.jsonl"

    @property
    def ray(self) -> Path:
        """Ray Tune's own notes; removed when a session ends."""
        return self.folder / "ray"

    @property
    def mlflow_uri(self) -> str:
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def mlflow_artifacts(self) -> Path:
        return self.root / "mlartifacts"

    @property
    def trials(self) -> Path:
        """A folder for each trial that was begun."""
        return self.folder / "trials"

    def trial(self, folder: str) -> Path:
        """A trial's folder: its reports, its checkpoint while it runs, its traceback if it failed."""
        return self.trials / folder

    def layers(self, folder: str) -> Path:
        """The statistics of a trial's layers along training, where its study asks for them."""
        return self.trial(folder) / "layers.jsonl"

    def create(self) -> None:
        """Make the folders and prove that they can be written.

        Raises:
            StudyError: with the path and the reason.
        """
        try:
            self.trials.mkdir(parents=True, exist_ok=True)
            probe = self.folder / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StudyError(
                f"the home folder {self.root} cannot be written ({error.strerror}: {error.filename}); "
                "choose another with --home or STUDY_HOME"
            ) from None

    def forget(self) -> None:
        """Take back that the study was begun: its facts and its journal go, so that it can be begun once more."""
        for path in (self.facts, self.ledger):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the study: a second driver on it is refused. The system frees the lock when a driver dies.

        Raises:
            StudyError: another process holds it.
        """
        with self.lock.open("a+") as file:
            if not _taken(file):
                file.seek(0)
                pid, _, host = file.read().strip().partition(" ")
                raise StudyError(
                    f"the study '{self.name}' is already running here (process {pid or 'unknown'}"
                    f"{f' on {host}' if host else ''}); wait for it, or stop it: python -m study.stop {self.name}"
                )
            file.truncate(0)
            file.write(f"{os.getpid()} {socket.gethostname()}")
            file.flush()
            yield

    def read_facts(self) -> dict[str, Any] | None:
        """What `write_facts` kept, or None where the study never began.

        Raises:
            StudyError: the file is there but unreadable.
        """
        try:
            return json.loads(self.facts.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise StudyError(f"{self.facts} cannot be read ({error}); restore it, or choose another name=") from None

    def write_facts(self, facts: dict[str, Any]) -> None:
        write_atomically(self.facts, json.dumps(facts, indent=1) + "\n")


def _taken(file: IO[str]) -> bool:
    """Take the lock; tried more than once, because a command that only looks at it holds it for an instant."""
    for attempt in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE_SECONDS if attempt < _LOCK_ATTEMPTS - 1 else 0)
    return False


def home_root(given: str | None) -> Path:
    """The home folder: as given, else STUDY_HOME, else ./studies."""
    return Path(given or os.environ.get("STUDY_HOME") or DEFAULT_HOME).expanduser().absolute()


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's content in one step: after a crash it holds the old text or the new, never a part."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
