"""All commands from outside: help with examples, errors of one line, instant answers, and a closed pipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from study.home import StudyHome
from study.records import COMPLETE

BeginHome = Callable[..., StudyHome]
ROOT = Path(__file__).parents[2]
COMMANDS = ("run", "report", "show", "stop", "export", "clean", "doctor")
HEAVY = ("torch", "torchvision", "ray", "optuna", "mlflow", "matplotlib", "pandas", "sklearn", "scipy", "numpy")
SPY = f"""
import importlib, json, sys
main = importlib.import_module("study." + sys.argv[1]).main
try:
    code = main(sys.argv[2:])
except SystemExit as end:  # --help
    code = end.code
heavy = sorted({{name.split(".")[0] for name in sys.modules}} & set({HEAVY!r}))
print("\\n" + json.dumps([code, heavy]))
"""


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("STUDY_HOME", "RAY_ADDRESS")}
    environment["COLUMNS"] = "100"
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_costs_nothing(command: str, tmp_path: Path) -> None:
    done = python("-c", SPY, command, "--help", cwd=tmp_path)
    *lines, last = done.stdout.splitlines()
    assert json.loads(last) == [0, []]
    text = "\n".join(lines)
    assert f"usage: python -m study.{command}" in text
    assert f"python -m study.{command} " in text.partition("examples:")[2]
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    "words",
    [
        ("show", "nothing"),
        ("show",),
        ("show", "--trial", "3"),
        ("show", "nothing.yaml"),
        ("show", "--watch", "soon"),
        ("stop", "nothing"),
        ("stop",),
        ("stop", "nothing", "--undo"),
        ("export", "nothing", "--best"),
        ("export", "nothing"),
        ("clean", "nothing"),
        ("clean", "nothing", "--all", "--checkpoints"),
        ("doctor", "nothing"),
        ("doctor", "--hom"),
        ("report", "nothing"),
        ("run", "--retry-failed"),
    ],
)
def test_errors_are_one_line_exit_code_2_and_cost_nothing(words: tuple[str, ...], tmp_path: Path) -> None:
    done = python("-c", SPY, *words, cwd=tmp_path)
    assert json.loads(done.stdout.splitlines()[-1]) == [2, []]
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_closed_pipe_is_no_error(begin_home: BeginHome, tmp_path: Path) -> None:
    begin_home([COMPLETE] * 4)
    command = f"{sys.executable} -m study.show tiny --home studies | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_without_unicode(begin_home: BeginHome, tmp_path: Path) -> None:
    begin_home([COMPLETE] * 4)
    command = [sys.executable, "-m", "study.show", "tiny", "--home", "studies", "--trial", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
