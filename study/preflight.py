"""What a node must have before a trial is sent there; each check answers with one clause on what is wrong, or nothing.

Runs on the node itself, in a process like a trial's.
"""

from __future__ import annotations

import importlib
import os
import platform
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from study.storage import is_url, open_url

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Demand:
    """What a study asks of every node."""

    versions: Mapping[str, str]  # of the driver
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
    checks: list[Callable[[], str | None]] = [lambda: _versions_fault(demand.versions), _imports_fault]
    if trains:
        checks += [lambda: _data_fault(demand.data), lambda: _device_fault(demand.cuda)]
    checks.append(lambda: _write_token(demand, node))
    return next((found for check in checks if (found := check()) is not None), None)


def unseen(demand: Demand, nodes: Iterable[str]) -> list[str]:
    """Those of the nodes whose tokens cannot be read here."""
    return [node for node in nodes if not _seen(_token(demand, node))]


def clear(demand: Demand, nodes: Iterable[str]) -> None:
    """Take the tokens away again."""
    for node in nodes:
        place = _token(demand, node)
        try:
            if is_url(place):
                filesystem, path = open_url(place)
                filesystem.delete_file(path)
            else:
                Path(place).unlink()
        except OSError:
            continue


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
    place = _token(demand, node)
    try:
        if is_url(place):
            filesystem, path = open_url(place)
            filesystem.create_dir(posixpath.dirname(path), recursive=True)
            with filesystem.open_output_stream(path) as sink:
                sink.write(node.encode())
        else:
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            Path(place).write_text(node, encoding="utf-8")
    except OSError as error:
        return f"cannot write to {demand.storage} ({os.strerror(error.errno) if error.errno else error})"
    return None


def _seen(place: str) -> bool:
    from pyarrow.fs import FileType

    if not is_url(place):
        return Path(place).is_file()
    filesystem, path = open_url(place)
    return bool(filesystem.get_file_info(path).type == FileType.File)


def _token(demand: Demand, node: str) -> str:
    return f"{demand.storage}/.seen-{demand.token}-{node}"
