"""The command line from outside: exit codes, one line an error, and nothing heavy imported before it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from study.errors import StudyError
from study.run import split_words

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "torchvision", "ray", "optuna", "mlflow", "matplotlib", "pandas", "sklearn", "scipy", "numpy")
SPY = f"""
import json, sys
from study.run import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:  # --help
    code = end.code
heavy = sorted({{name.split(".")[0] for name in sys.modules}} & set({HEAVY!r}))
print("\\n" + json.dumps([code, heavy]))
"""


def _run(
    *arguments: str, cwd: Path, command: tuple[str, ...] = ("-m", "study.run")
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("STUDY_HOME", "RAY_ADDRESS")}
    return subprocess.run(
        [sys.executable, *command, *arguments],
        cwd=cwd,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "pieces"),
    [
        (("--help",), ("usage: python -m study.run", "examples:", "search.trials=12", "--resume", "--home DIR")),
        (("--list",), ("digits-warmup (default)",)),
        (("--dry-run",), ("digits-warmup: 5 arms", "block B1077", "nothing was run")),
        (("digits-warmup", "search.trials=9", "--dry-run"), ("of 9 trials",)),
        (("digits-warmup", "--dry-run", "search.trials=9"), ("of 9 trials",)),
        (("--dry-run", "search.trials=9", "name=other"), ("other: 5 arms", "of 9 trials")),
    ],
)
def test_what_only_looks(arguments: tuple[str, ...], pieces: tuple[str, ...], tmp_path: Path) -> None:
    done = _run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(piece in done.stdout for piece in pieces)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "pieces"),
    [
        (("digits-warmpu",), ("unknown study 'digits-warmpu'", "did you mean 'digits-warmup'?")),
        (("nope.yaml",), ("nope.yaml does not exist",)),
        (("search.trals=3",), ("'search.trals'", "did you mean 'trials'?")),
        (("digits-warmup", "train.batch_size=5000"), ("train.batch_size", "1077 training images")),
        (("digits-warmup", "more"), ("'more' is neither the study nor an override",)),
        (("a\nb.c=[",), ("unreadable YAML",)),
        (("name=../../out",), ("it names a folder",)),
        (("space.lars.base_lr=!!python/object/apply:os.system [touch gotcha]",), ("use plain values",)),
        (("--dryrun",), ("unrecognized arguments: --dryrun", "--help")),
        (("--home",), ("expected one argument", "--help")),
        (("--resume",), ("there is no study 'digits-warmup'", "leave out --resume")),
        (("--home", "/dev/null/studies"), ("the home folder /dev/null/studies cannot be written", "STUDY_HOME")),
    ],
)
def test_errors_are_one_line_and_exit_code_2(
    arguments: tuple[str, ...], pieces: tuple[str, ...], tmp_path: Path
) -> None:
    done = _run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("\n")
    assert "Traceback" not in done.stderr + done.stdout
    assert all(piece in done.stderr for piece in pieces)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("--list",), 0),
        (("--dry-run",), 0),
        (("digits-warmpu",), 2),
        (("search.trals=3",), 2),
        (("train.batch_size=5000",), 2),
        (("--resume",), 2),
        (("--home", "/dev/null/studies"), 2),
    ],
)
def test_what_answers_at_once_imports_nothing_heavy(arguments: tuple[str, ...], code: int, tmp_path: Path) -> None:
    done = _run(*arguments, cwd=tmp_path, command=("-c", SPY))
    assert json.loads(done.stdout.splitlines()[-1]) == [code, []]


def test_the_spy_would_notice(tmp_path: Path) -> None:
    done = _run("--list", cwd=tmp_path, command=("-c", "import sklearn\n" + SPY))
    assert json.loads(done.stdout.splitlines()[-1])[1][-2:] == ["scipy", "sklearn"]


@pytest.mark.parametrize(
    ("words", "study", "overrides"),
    [
        ([], "digits-warmup", []),
        (["mine.yaml"], "mine.yaml", []),
        (["a=1", "b=2"], "digits-warmup", ["a=1", "b=2"]),
        (["mine.yaml", "a=1"], "mine.yaml", ["a=1"]),
    ],
)
def test_words(words: list[str], study: str, overrides: list[str]) -> None:
    assert split_words(words) == (study, overrides)


def test_the_study_stands_first() -> None:
    with pytest.raises(StudyError, match=r"'mine\.yaml' is neither the study nor an override"):
        split_words(["a=1", "mine.yaml"])
