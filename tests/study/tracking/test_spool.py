"""Notes and the file that keeps them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from study.tracking.spool import Notes, Spool

NOTES = Notes("k", "cell:c", "k", {"a": "1"}, {"p": "1"}, [("val/loss", 0.5, 1, 1000)], ["/a"], None, 10, 0)


def _nothing() -> None:
    pass


def test_what_is_added_is_read(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    assert spool.read() == []
    other = replace(NOTES, key="other", metrics=[])
    spool.add(NOTES, _nothing)
    spool.add(other, _nothing)
    assert Spool(tmp_path / "spool").read() == [NOTES, other]
    spool.clear(unless=lambda: True)
    assert len(spool.read()) == 2
    spool.clear(unless=lambda: False)
    assert spool.read() == []
    assert not (tmp_path / "spool").exists()


def test_a_torn_line_is_dropped_and_nothing_is_added_to_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.add(NOTES, _nothing)
    with (tmp_path / "spool").open("a") as file:
        file.write('not even json\n{"key": "x"}\n{"key": "to')
    assert spool.read() == [NOTES]
    spool.add(NOTES, _nothing)
    assert spool.read() == [NOTES, NOTES]


def test_a_disk_that_refuses_stops_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "no folder" / "spool")
    done = []
    spool.add(NOTES, lambda: done.append(True))
    assert done == [True]
    assert spool.read() == []
    spool.clear(unless=lambda: False)


def test_merging() -> None:
    notes = replace(NOTES, tags=dict(NOTES.tags), params=dict(NOTES.params), metrics=list(NOTES.metrics), artifacts=[])
    notes.merge(Notes("k", None, "k", {"b": "2"}, {"p": "2"}, [("val/loss", 0.4, 2, 2000)], ["/b"]))
    assert (notes.tags, notes.params) == ({"a": "1", "b": "2"}, {"p": "2"})
    assert [metric[2] for metric in notes.metrics] == [1, 2]
    assert (notes.artifacts, notes.ended, notes.start_ms) == (["/b"], None, 10)
    notes.merge(Notes("k", None, "k", ended="KILLED", end_ms=20))
    assert (notes.ended, notes.end_ms) == ("KILLED", 20)
    notes.merge(Notes("k", None, "k", start_ms=30))  # begun anew: no longer ended, begun when it first was
    assert (notes.ended, notes.start_ms) == (None, 10)
    notes.merge(Notes("k", None, "k", ended="FINISHED", end_ms=40))
    assert (notes.ended, notes.end_ms) == ("FINISHED", 40)
