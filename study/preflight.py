"""What a node must have before a trial is sent there; each check answers with one clause on what is wrong, or nothing.

Runs on the node itself, in a process like a trial's.
"""

from __future__ import annotations

import contextlib
import importlib
import platform
import posixpath
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from study.errors import StudyError
from study.storage import below, in_short, is_url, open_url

STORAGE_SECONDS = 30.0  # by then a store that is there has answered; clients of some try for many minutes
PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Demand:
    """What a study asks of every node."""

    versions: Mapping[str, str]  # of the driver
    own: Sequence[tuple[str, str]]  # ("model", "module:name"): the user's, which the study names
    data: Sequence[Mapping[str, Any]]  # DataConfigs as dicts
    cuda: bool
    storage: str  # folder or URL
    token: str  # the session's, in the names of what is written there


def versions() -> dict[str, str]:
    """Of what decides a trial's numbers. A local build's suffix counts: its kernels may differ."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def fault(demand: Demand, node: str, *, trains: bool) -> str | None:
    """The first thing that is wrong on this node, or None; leaves a token in the storage that other nodes look for.

    Args:
        node: an id of the node that can be a file name.
        trains: whether workers train here; else it can only be the node of a trial that drives them.
    """
    checks: list[Callable[[], str | None]] = [
        lambda: _versions_fault(demand.versions),
        _imports_fault,
    ]
    if trains:
        checks += [lambda: _own_fault(demand.own), lambda: _data_fault(demand.data), lambda: _device_fault(demand.cuda)]
    checks.append(lambda: _write_token(demand, node))
    return next((found for check in checks if (found := check()) is not None), None)


def unseen(demand: Demand, nodes: Iterable[str]) -> list[str]:
    """Those of the nodes whose tokens cannot be read here."""
    return [node for node in nodes if not _seen(_token(demand, node))]


def clear(demand: Demand, nodes: Iterable[str]) -> None:
    """Take the tokens away again."""
    for node in nodes:
        with contextlib.suppress(Exception):  # file systems raise what their own libraries do
            _remove(_token(demand, node))


def require_storage(storage: str) -> None:
    """Refuse, before anything is spent, a storage in which this machine cannot write.

    Raises:
        StudyError: what it answered, or that it did not.
    """
    token = below(storage, f".seen-{uuid.uuid4().hex[:8]}")
    found = _write(token, storage)
    if found:
        raise StudyError(f"this machine {found}; check --storage, and what its URL needs (name, region, credentials)")
    with contextlib.suppress(Exception):
        _remove(token)


def _versions_fault(wanted: Mapping[str, str]) -> str | None:
    here = versions()
    differing = [
        f"{name} {here[name]} (the driver has {wanted[name]})" for name in wanted if here[name] != wanted[name]
    ]
    return f"has {' and '.join(differing)}; install the driver's versions there" if differing else None


def _imports_fault() -> str | None:
    try:
        importlib.import_module("trainables.loop")
    except Exception as error:
        return f"cannot import our packages ({type(error).__name__}: {error}); install what is missing there"
    return None


def _own_fault(wanted: Sequence[tuple[str, str]]) -> str | None:
    from trainables.config import ConfigError
    from trainables.plugins import load_object

    try:
        for what, reference in wanted:
            load_object(reference, what=what)
    except ConfigError as error:
        return f"lacks what the study names: {error}"
    return None


def _data_fault(wanted: Sequence[Mapping[str, Any]]) -> str | None:
    from trainables.config import ConfigError, DataConfig
    from trainables.data.facts import require_present

    try:
        for data in wanted:
            require_present(DataConfig.from_dict(data))
    except ConfigError as error:
        return f"lacks data: {error}"
    return None


def _device_fault(cuda: bool) -> str | None:
    if cuda:
        import torch

        if not torch.cuda.is_available():
            return "has a GPU by Ray's account, but torch sees none; check its driver and torch's CUDA build"
    return None


def _write_token(demand: Demand, node: str) -> str | None:
    return _write(_token(demand, node), demand.storage)


def _write(token: str, storage: str) -> str | None:
    """What keeps this machine from writing a file there, or None."""
    answers: list[str | None] = []

    def write() -> None:
        try:
            if is_url(token):
                filesystem, path = open_url(token)
                filesystem.create_dir(posixpath.dirname(path), recursive=True)
                with filesystem.open_output_stream(path) as sink:
                    sink.write(b"seen")
            else:
                Path(token).parent.mkdir(parents=True, exist_ok=True)
                Path(token).write_text("seen", encoding="utf-8")
            answers.append(None)
        except Exception as error:  # file systems raise what their own libraries do
            answers.append(f"cannot write to {storage} ({in_short(error)})")

    # Beside, since nothing can interrupt it; a process that ends does not wait for it.
    thread = threading.Thread(target=write, name="storage", daemon=True)
    thread.start()
    thread.join(STORAGE_SECONDS)
    return answers[0] if answers else f"had no answer from {storage} within {STORAGE_SECONDS:.0f} s"


def _remove(token: str) -> None:
    if is_url(token):
        filesystem, path = open_url(token)
        filesystem.delete_file(path)
    else:
        Path(token).unlink()


def _seen(place: str) -> bool:
    from pyarrow.fs import FileType

    if not is_url(place):
        return Path(place).is_file()
    filesystem, path = open_url(place)
    return bool(filesystem.get_file_info(path).type == FileType.File)


def _token(demand: Demand, node: str) -> str:
    return below(demand.storage, f".seen-{demand.token}-{node}")
