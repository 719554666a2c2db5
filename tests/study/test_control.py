"""Requests to a running study."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.control import Control, Requests, stopped_cells


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.jsonl"


def test_nothing_was_asked(path: Path) -> None:
    assert Control(path).requests() == Requests()
    assert stopped_cells(path) == ()
    assert not path.exists()


def test_requests_reach_a_reader_that_looks_again(path: Path) -> None:
    reader, writer = Control(path), Control(path)
    assert reader.requests() == Requests()
    writer.stop_trial("lars/B64/r0/t1")
    assert reader.requests() == Requests(frozenset({"lars/B64/r0/t1"}))
    writer.stop_cell("lars/B64")
    writer.stop_cell("sgd/B64")
    both = Requests(frozenset({"lars/B64/r0/t1"}), frozenset({"lars/B64", "sgd/B64"}))
    assert reader.requests() == both
    assert reader.requests() == both
    writer.go_on_with_cell("lars/B64")
    assert reader.requests().cells == {"sgd/B64"}
    assert stopped_cells(path) == ("sgd/B64",)
    writer.stop_cell("lars/B64")
    assert stopped_cells(path) == ("lars/B64", "sgd/B64")


def test_a_line_is_read_once_it_is_whole(path: Path) -> None:
    reader = Control(path)
    line = '{"ask": "stop cell", "of": "lars/B64"}\n'
    path.write_text(line[:20])
    assert reader.requests() == Requests()
    path.write_text(line)
    assert reader.requests().cells == {"lars/B64"}


@pytest.mark.parametrize(
    "junk", ["", "[]", "{}", "7", "{", '{"ask": "dance", "of": "x"}', '{"ask": "stop cell", "of": 3}']
)
def test_what_is_no_request_is_passed_over(path: Path, junk: str) -> None:
    path.write_text(junk + "\n")
    Control(path).stop_cell("lars/B64")
    assert Control(path).requests() == Requests(frozenset(), frozenset({"lars/B64"}))
