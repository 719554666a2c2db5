"""Checkpoints of one trial: written atomically, read warily.

A file's name holds the sha256 of its bytes, so a torn or altered file is known before it is unpickled, and
every file stays readable by torch.load alone. Only tensors and plain containers are read
(`weights_only=True`).
"""

from __future__ import annotations

import copy
import hashlib
import io
import logging
import os
import pickle
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

logger = logging.getLogger(__name__)

FORMAT = 1
_NAME = re.compile(r"epoch-(?P<epoch>\d{6})-(?P<hash>[0-9a-f]{16})\.pt")
_BEST = re.compile(r"best-(?P<epoch>\d{6})-(?P<score>-?\d+\.\d{8})-(?P<hash>[0-9a-f]{16})\.pt")
SPARE_BYTES = 256 << 20  # of disk, that a checkpoint must leave free: databases and logs need room too

State = Mapping[str, Any]


class LowDiskError(OSError):
    """A checkpoint would leave too little of the disk free; those before it are untouched."""


class CheckpointMismatchError(ValueError):
    """The folder holds checkpoints of another configuration."""


@dataclass(frozen=True)
class Checkpoint:
    epoch: int  # whole epochs trained
    state: dict[str, Any]


class CheckpointStore:
    """The newest `keep` checkpoints of one configuration in one folder, and the best of those that were written.

    Args:
        folder: made where it does not exist.
        digest: of the trial's configuration; checkpoints with another one are refused.
        every_epochs: write every so many epochs; the epochs between are kept in memory for `flush`.
        keep: files to keep, so that a torn one falls back to the one before.
    """

    def __init__(self, folder: Path, digest: str, *, every_epochs: int = 1, keep: int = 2) -> None:
        self.folder = folder
        self.digest = digest
        self.every_epochs = every_epochs
        self.keep = keep
        self._pending: tuple[int, State] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("epoch-*.tmp"):
            leftover.unlink(missing_ok=True)

    def offer(self, epoch: int, state: State, *, last: bool = False, score: float | None = None) -> None:
        """Write the state after `epoch` if it is due or the last one, else remember a copy.

        The written one with the highest `score` is kept beside the newest.
        """
        if last or epoch % self.every_epochs == 0:
            path = self.save(epoch, state)
            if score is not None:
                self._keep_best(path, epoch, score)
        else:
            self._pending = (epoch, copy.deepcopy(dict(state)))

    def flush(self) -> None:
        """Write the remembered state, if there is one: the trial is about to stop."""
        if self._pending is not None:
            self.save(*self._pending)

    def save(self, epoch: int, state: State) -> Path:
        """Write to a temporary file, fsync, rename; then drop what is too old or newer than this.

        Raises LowDiskError where the disk would run full.
        """
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, "config_digest": self.digest, "epoch": epoch, "state": dict(state)}, buffer)
        data = buffer.getbuffer()
        self._require_room(len(data))
        path = self.folder / f"epoch-{epoch:06d}-{hashlib.sha256(data).hexdigest()[:16]}.pt"
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(self.folder)
        self._pending = None
        # newer files than this one can only be damaged ones that were passed over
        older = [found for found_epoch, found in self._files() if found_epoch < epoch]
        kept = {path, *older[: self.keep - 1]}
        for _, found in self._files():
            if found not in kept:
                found.unlink(missing_ok=True)
        return path

    def load(self, device: torch.device) -> Checkpoint | None:
        """The newest checkpoint that can be read, or None. Damaged ones are reported and passed over.

        Raises CheckpointMismatchError where one belongs to another configuration.
        """
        for _, path in self._files():
            content = _read(path, device)
            if content is None:
                continue
            if content.get("config_digest") != self.digest or content.get("format") != FORMAT:
                raise CheckpointMismatchError(
                    f"{path} belongs to another configuration or version "
                    f"(its digest {str(content.get('config_digest'))[:12]}, format {content.get('format')}; "
                    f"this trial's {self.digest[:12]}, format {FORMAT}): give this trial a folder of its own"
                )
            return Checkpoint(content["epoch"], content["state"])
        return None

    def best(self) -> Path | None:
        """The written checkpoint with the highest score; `torch.load` reads it."""
        found = [(float(match["score"]), path) for match, path in self._named(_BEST)]
        return max(found)[1] if found else None

    def _keep_best(self, path: Path, epoch: int, score: float) -> None:
        known = self._named(_BEST)
        if any(float(match["score"]) >= round(score, 8) and int(match["epoch"]) < epoch for match, _ in known):
            return
        hashed = path.stem.rpartition("-")[2]
        best = self.folder / f"best-{epoch:06d}-{score:.8f}-{hashed}.pt"
        best.unlink(missing_ok=True)
        try:
            os.link(path, best)  # costs no disk while the newest still holds it
        except OSError:  # a file system without hard links
            shutil.copyfile(path, best)
        for _, other in known:
            if other != best:
                other.unlink(missing_ok=True)

    def _require_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < needed + SPARE_BYTES:
            raise LowDiskError(
                f"the disk of {self.folder} has {free >> 20} MiB free, and a checkpoint of {needed >> 20} MiB would "
                f"leave less than {SPARE_BYTES >> 20} MiB: free some, or choose another folder; the checkpoints "
                "written before are kept"
            )

    def _named(self, pattern: re.Pattern[str]) -> list[tuple[re.Match[str], Path]]:
        return [(match, path) for path in self.folder.iterdir() if (match := pattern.fullmatch(path.name))]

    def _files(self) -> list[tuple[int, Path]]:
        """(epoch, path), newest first."""
        return sorted(((int(match["epoch"]), path) for match, path in self._named(_NAME)), reverse=True)


def _read(path: Path, device: torch.device) -> dict[str, Any] | None:
    match = _NAME.fullmatch(path.name)
    data = path.read_bytes()
    if match is None or hashlib.sha256(data).hexdigest()[:16] != match["hash"]:
        logger.warning("checkpoint %s is damaged (%d bytes, wrong sha256): passed over", path, len(data))
        return None
    try:
        content = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        logger.warning("checkpoint %s cannot be read (%s): passed over", path, error)
        return None
    return content if isinstance(content, dict) else None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
