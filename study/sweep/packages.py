"""The Python modules that a study's processes need on every node: our packages, and the user's own."""

from __future__ import annotations

import ast
import importlib.util
import sys
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

    The user's are those that the study names, and what these import in their turn.

    Raises:
        StudyError: a module that the study names is nowhere to be found.
    """
    ours = [_place(name) for name in PACKAGES]
    named = {reference.partition(":")[0].partition(".")[0]: reference for reference in _references(spec)}
    theirs: dict[str, Path | None] = {name: _place(name, reference) for name, reference in named.items()}
    open_names = list(theirs)
    while open_names:
        path = theirs[open_names.pop()]
        if path is None or path in ours or _installed(path):
            continue
        for name in _imports(path) - theirs.keys() - sys.stdlib_module_names:
            theirs[name] = _found(name)  # maybe nowhere: an import may be optional
            open_names.append(name)
    paths = [path for _, path in sorted(theirs.items()) if path is not None]
    return ours + [path for path in paths if not _installed(path) and path not in ours]


def _references(spec: Spec | None) -> Iterator[str]:
    """What the study names as `module:name`: the user's models, tasks and arms."""
    if spec is None:
        return
    names: list[Any] = [spec.task_name, *(model.name for model in spec.models), *spec.arms]
    yield from (name for name in names if is_reference(name))


def _imports(path: Path) -> set[str]:
    """First names of what the Python files there import, read and not run."""
    files = path.rglob("*.py") if path.is_dir() else [path] if path.suffix == ".py" else []
    names: set[str] = set()
    for file in files:
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):
            continue  # who imports it is told so
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names


def _found(name: str) -> Path | None:
    try:
        found = importlib.util.find_spec(name)
    except ValueError:  # a module that says nothing of itself, as __main__
        return None
    if found is not None and found.submodule_search_locations:
        return Path(next(iter(found.submodule_search_locations)))
    return Path(found.origin) if found is not None and found.has_location and found.origin is not None else None


def _place(name: str, reference: str | None = None) -> Path:
    place = _found(name)
    if place is not None:
        return place
    raise StudyError(
        f"'{reference or name}': Python finds no module '{name}'; start from the folder that holds it, or put that "
        "folder on PYTHONPATH"
    )


def _installed(path: Path) -> bool:
    """What pip installed here must be installed on the nodes as well: it may be compiled for this machine."""
    # by name: the user's own installs, and those of a Python below a virtual environment, count as well
    return bool({"site-packages", "dist-packages"} & set(path.parts)) or path.is_relative_to(
        sysconfig.get_path("stdlib")
    )
