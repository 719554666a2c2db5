"""The Python modules that a study's processes need on every node: our packages, and the user's own."""

from __future__ import annotations

import importlib.util
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from study.errors import StudyError
from study.spec import Spec
from trainables.plugins import is_reference

PACKAGES = ("study", "trainables", "optim", "search_spaces")


def python_modules(spec: Spec | None) -> list[Path]:
    """Folders of packages and files of modules, each to be importable by its own name.

    Raises:
        StudyError: a module that the study names is nowhere to be found.
    """
    ours = [_place(name) for name in PACKAGES]
    theirs = {reference.partition(":")[0].partition(".")[0]: reference for reference in _references(spec)}
    paths = [_place(name, reference) for name, reference in sorted(theirs.items())]
    return ours + [path for path in paths if not _installed(path) and path not in ours]


def _references(spec: Spec | None) -> Iterator[str]:
    """What the study names as `module:name`: the user's models, tasks and arms."""
    if spec is None:
        return
    names: list[Any] = [spec.task_name, *(model.name for model in spec.models), *spec.arms]
    yield from (name for name in names if is_reference(name))


def _place(name: str, reference: str | None = None) -> Path:
    found = importlib.util.find_spec(name)
    if found is not None and found.submodule_search_locations:
        return Path(next(iter(found.submodule_search_locations)))
    if found is not None and found.origin is not None:
        return Path(found.origin)
    raise StudyError(
        f"'{reference or name}': Python finds no module '{name}'; start from the folder that holds it, or put that "
        "folder on PYTHONPATH"
    )


def _installed(path: Path) -> bool:
    """What pip installed here must be installed on the nodes as well: it may be compiled for this machine."""
    return any(path.is_relative_to(sysconfig.get_path(kind)) for kind in ("purelib", "platlib", "stdlib"))
