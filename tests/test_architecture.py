"""The shape of the code: who may import whom, what each package may use from outside, and how long a file may be.

    optim <- trainables <- study -> search_spaces

Imports are read from the source, relative and dynamic ones too, so a breach counts even where it never runs.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES = 300
PACKAGES = ("optim", "trainables", "search_spaces", "study")
MAY_IMPORT = {
    "optim": set(),
    "trainables": {"optim"},
    "search_spaces": set(),
    "study": {"optim", "trainables", "search_spaces"},
}
OUTSIDE = {
    "optim": {"torch", "numpy"},
    "trainables": {"torch", "torchvision", "numpy", "ray", "sklearn"},
    "search_spaces": set(),
}  # study: whatever pyproject.toml declares
KNOWN_ONLY_TO = {  # the longest name that fits an import decides
    "ray": "study/sweep/",
    "ray.train": "trainables/trial.py",
    "optuna": "study/search/",
    "mlflow": "study/tracking/",
    "sklearn": "trainables/data/",
}
NAMES_AT_RUN_TIME = {"trainables/plugins.py"}  # imports the user's own modules
IMPORT_NAMES = {"PyYAML": "yaml", "scikit-learn": "sklearn"}
TOP_LEVEL = {*PACKAGES, "tests", "pyproject.toml", "README.md", "LICENSE", "constraints.txt"}


@dataclass(frozen=True)
class Import:
    """One imported name; `from a import b` counts as `a.b`."""

    file: str  # relative to the root, with slashes
    line: int
    name: str
    lazy: bool  # inside a function

    @property
    def package(self) -> str:
        return self.file.split("/")[0]

    @property
    def top(self) -> str:
        return self.name.split(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"


def imports_of(root: Path) -> Iterator[Import]:
    """Every import in the packages below `root`."""
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            yield from _imports(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))


@cache
def _imports(file: str, source: str) -> tuple[Import, ...]:
    tree = ast.parse(source, file)
    functions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    ]
    lazy = {inner for function in functions for inner in ast.walk(function)}
    return tuple(
        Import(file, getattr(node, "lineno", 0), name, node in lazy)
        for node in ast.walk(tree)
        for name in _names(node, file)
    )


def _names(node: ast.AST, file: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = file.removesuffix(".py").split("/")
        base = [*parents[: len(parents) - node.level], node.module or ""] if node.level else [node.module or ""]
        yield from (".".join(filter(None, [*base, alias.name])) for alias in node.names)
    elif isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("import_module", "__import__"):
            first = node.args[0] if node.args else None
            known = isinstance(first, ast.Constant) and isinstance(first.value, str)
            yield first.value if known else "?"  # type: ignore[union-attr]


def declared_dependencies(root: Path) -> set[str]:
    """What `pip install` brings, by the names that it is imported by."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[^\w.-]", dependency)[0] for dependency in project["dependencies"]}
    return {IMPORT_NAMES.get(name, name) for name in names}


def breaches(root: Path) -> list[str]:
    """Every breach of the rules below `root`, in words."""
    found = []
    outside = {**OUTSIDE, "study": declared_dependencies(root)}
    sklearn_files = set()
    for item in imports_of(root):
        if item.top in PACKAGES:
            if item.top != item.package and item.top not in MAY_IMPORT[item.package]:
                found.append(f"{item}: {item.package} may not know {item.top}")
            continue
        if item.top == "?" and item.file not in NAMES_AT_RUN_TIME:
            found.append(f"{item.file}:{item.line} imports a name that only shows when it runs")
        if item.top in sys.stdlib_module_names or item.top == "?":
            continue
        if item.top not in outside[item.package]:
            found.append(f"{item}: {item.package} may not use {item.top}")
        fitting = [name for name in KNOWN_ONLY_TO if f"{item.name}.".startswith(f"{name}.")]
        owner = KNOWN_ONLY_TO[max(fitting, key=len)] if fitting else ""
        if not item.file.startswith(owner):
            found.append(f"{item}: {max(fitting, key=len)} is known to {owner} alone")
        elif item.top == "sklearn":
            sklearn_files.add(item.file)
            if not item.lazy:
                found.append(f"{item}: the loop must do without scikit-learn, import it where it is used")
    if len(sklearn_files) > 1:
        found.append(f"scikit-learn is known to more than one file: {', '.join(sorted(sklearn_files))}")
    return found + long_files(root)


def long_files(root: Path) -> list[str]:
    """Source and test files that nobody reads in one go."""
    found = []
    for folder in (*PACKAGES, "tests"):
        for path in sorted((root / folder).rglob("*.py")):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > MOST_LINES:
                found.append(f"{path.relative_to(root).as_posix()} has {lines} lines, more than {MOST_LINES}")
    return found


def test_the_rules_are_kept() -> None:
    assert breaches(ROOT) == []


def test_every_dependency_is_used() -> None:
    through_optuna = {"cmaes"}  # its sampler of that name imports it
    assert declared_dependencies(ROOT) - {item.top for item in imports_of(ROOT)} - through_optuna == set()


def test_the_reader_sees_imports() -> None:
    """A reader that sees nothing would find no breach."""
    names = {(item.file, item.name) for item in imports_of(ROOT)}
    assert ("trainables/trial.py", "ray.train.RunConfig") in names
    assert ("study/plan.py", "search_spaces.Space") in names
    owners = {item.top: item.file for item in imports_of(ROOT)}
    assert {"optuna", "mlflow", "ray", "sklearn", "torch"} <= set(owners)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages once more, to plant breaches in."""
    root = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


@pytest.fixture
def breaches_with(copied: Path) -> Iterator[Callable[[str, str], list[str]]]:
    """Append to a file of the copy, new or not, and read the breaches; afterwards it is as before."""
    paths: list[tuple[Path, str | None]] = []

    def plant(file: str, source: str) -> list[str]:
        path = copied / file
        path.parent.mkdir(exist_ok=True)
        before = path.read_text(encoding="utf-8") if path.exists() else None
        paths.append((path, before))
        path.write_text((before or "") + source, encoding="utf-8")
        return breaches(copied)

    assert breaches(copied) == []
    yield plant
    for path, before in paths:
        path.unlink() if before is None else path.write_text(before, encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "source", "breach"),
    [
        # directions
        ("optim/planted.py", "import trainables.loop", "optim may not know trainables"),
        ("optim/planted.py", "from study.plan import Plan", "optim may not know study"),
        ("optim/planted.py", "from search_spaces import Float", "optim may not know search_spaces"),
        ("trainables/planted.py", "import study", "trainables may not know study"),
        ("trainables/data/planted.py", "from search_spaces import catalog", "trainables may not know search_spaces"),
        ("search_spaces/planted.py", "from optim.registry import ARMS", "search_spaces may not know optim"),
        ("search_spaces/planted.py", "import study.spec", "search_spaces may not know study"),
        ("trainables/data/planted.py", "from ...study import plan", "trainables may not know study"),
        # where it hides: in a function, under a condition, for types alone, behind a string
        ("optim/planted.py", "def f():\n    from study import plan", "optim may not know study"),
        ("optim/planted.py", "if False:\n    import study", "optim may not know study"),
        ("optim/planted.py", "try:\n    import study\nexcept ImportError:\n    pass", "optim may not know study"),
        ("optim/planted.py", "import importlib\nx = importlib.import_module('study.plan')", "optim may not know study"),
        ("optim/planted.py", "from importlib import import_module\nimport_module('study')", "optim may not know study"),
        ("optim/planted.py", "__import__('study')", "optim may not know study"),
        ("optim/planted.py", "import importlib\nimportlib.import_module('stu' + 'dy')", "only shows when it runs"),
        ("trainables/planted.py", "import importlib\nimportlib.import_module(name)", "only shows when it runs"),
        # what each may use from outside
        ("optim/planted.py", "import torchvision", "optim may not use torchvision"),
        ("optim/planted.py", "import scipy.stats", "optim may not use scipy"),
        ("trainables/planted.py", "import pydantic", "trainables may not use pydantic"),
        ("search_spaces/planted.py", "import numpy as np", "search_spaces may not use numpy"),
        ("search_spaces/planted.py", "import torch", "search_spaces may not use torch"),
        ("study/planted.py", "import requests", "study may not use requests"),
        ("study/planted.py", "import pytest", "study may not use pytest"),
        # what is known to one place alone
        ("trainables/loop.py", "from ray import train", "ray.train is known to trainables/trial.py alone"),
        ("study/sweep/planted.py", "import ray.train.torch", "ray.train is known to trainables/trial.py alone"),
        ("trainables/trial.py", "from ray import tune", "ray is known to study/sweep/ alone"),
        ("study/planted.py", "from ray import tune", "ray is known to study/sweep/ alone"),
        ("study/planted.py", "def f():\n    import ray.tune.search", "ray is known to study/sweep/ alone"),
        ("study/search/planted.py", "import ray", "ray is known to study/sweep/ alone"),
        ("study/sweep/planted.py", "from optuna.samplers import TPESampler", "optuna is known to study/search/ alone"),
        ("study/planted.py", "import importlib\nimportlib.import_module('optuna')", "optuna is known to study/search/"),
        ("study/search/planted.py", "import mlflow", "mlflow is known to study/tracking/ alone"),
        ("study/analysis/planted.py", "from sklearn import metrics", "sklearn is known to trainables/data/ alone"),
        # scikit-learn: one file, lazily
        ("trainables/data/digits.py", "from sklearn.datasets import load_digits", "import it where it is used"),
        ("trainables/data/planted.py", "def f():\n    import sklearn", "known to more than one file"),
        # length
        ("study/planted.py", "\n" * 301, "study/planted.py has 301 lines, more than 300"),
        ("tests/planted.py", "\n" * 301, "tests/planted.py has 301 lines, more than 300"),
    ],
)
def test_a_planted_breach_is_found(
    file: str, source: str, breach: str, breaches_with: Callable[[str, str], list[str]]
) -> None:
    (found,) = breaches_with(file, source)
    assert breach in found
    assert file in found


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("trainables/planted.py", "import json\nimport torch\nfrom optim import trust\nfrom . import config"),
        (
            "study/planted.py",
            "import torch\nimport optim\nimport trainables.loop\nfrom search_spaces import Float\nimport yaml",
        ),
        ("study/sweep/planted.py", "import ray\nfrom ray import tune"),
        ("study/search/deep/planted.py", "import optuna"),
        ("trainables/plugins.py", "import importlib\nimportlib.import_module(name)"),
        ("study/planted.py", "import trainables.trial as rays\nfrom study.search import ledger"),
        ("study/planted.py", "\n" * 300),
    ],
)
def test_what_is_allowed_is_no_breach(file: str, source: str, breaches_with: Callable[[str, str], list[str]]) -> None:
    assert breaches_with(file, source) == []


def test_top_level() -> None:
    """The top level is fixed; what git ignores does not count."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git repository: what is ignored cannot be told")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    top = {file.split("/")[0] for file in files}
    assert {*PACKAGES, "tests", "pyproject.toml"} <= top
    assert {name for name in top - TOP_LEVEL if not name.startswith(".")} == set()
