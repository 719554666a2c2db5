"""Layer statistics as a table and as a file that a resumed run goes on with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trainables.diagnostics.layer_table import FIELDS, LayerFile, LayerTable, read_layers


def table(epoch: int, *steps: int, names: tuple[str, ...] = ("conv", "bias"), offset: float = 0.0) -> LayerTable:
    values = np.random.default_rng(epoch).random((3, len(steps), len(names)), dtype=np.float32) + np.float32(offset)
    return LayerTable(
        names, (4, 1), np.array(steps, dtype=np.int64), np.full(len(steps), epoch, dtype=np.int64), *values
    )


def assert_holds(path: Path, *tables: LayerTable) -> None:
    found = read_layers(path)
    assert found is not None
    assert (found.names, found.dimensions) == (tables[0].names, tables[0].dimensions)
    for name in ("steps", "epochs", *FIELDS):
        expected = np.concatenate([getattr(one, name) for one in tables])
        np.testing.assert_array_equal(getattr(found, name), expected)
        assert getattr(found, name).dtype == expected.dtype


def test_the_file_gives_the_values_back(tmp_path: Path) -> None:
    file, tables = LayerFile(tmp_path / "deep" / "layers.jsonl"), [table(1, 0, 3), table(2, 6), table(3, 9, 12)]
    for one in tables:
        file.append(one)
    assert_holds(tmp_path / "deep" / "layers.jsonl", *tables)


def test_an_epoch_that_is_trained_again_is_not_doubled(tmp_path: Path) -> None:
    """A run is taken up at its checkpoint, which may be epochs older than the file."""
    path = tmp_path / "layers.jsonl"
    before = LayerFile(path)
    for one in (table(1, 0), table(2, 5), table(3, 10)):
        before.append(one)
    after = LayerFile(path)
    after.append(table(2, 5, offset=1.0))
    after.append(table(3, 10, offset=1.0))
    assert_holds(path, table(1, 0), table(2, 5, offset=1.0), table(3, 10, offset=1.0))


def test_a_torn_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "layers.jsonl"
    file = LayerFile(path)
    file.append(table(1, 0))
    file.append(table(2, 5))
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert_holds(path, table(1, 0))
    LayerFile(path).append(table(2, 5))
    assert path.read_bytes() == whole


def test_the_file_of_another_model_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "layers.jsonl"
    LayerFile(path).append(table(1, 0, names=("other", "bias")))
    LayerFile(path).append(table(2, 5))
    assert_holds(path, table(2, 5))


def test_without_records_there_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "layers.jsonl"
    LayerFile(path).append(table(1))
    assert not path.exists()
    assert read_layers(path) is None


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    one = table(1, 0)
    one.lgn[0, 1], one.lwn[0, 0] = np.nan, np.inf
    path = tmp_path / "layers.jsonl"
    LayerFile(path).append(one)
    line = json.loads(path.read_text().splitlines()[1])
    assert line["lgn"] == [[pytest.approx(float(one.lgn[0, 0])), None]]
    found = read_layers(path)
    assert found is not None
    assert np.isnan(found.lgn[0, 1])
    assert np.isnan(found.lwn[0, 0])


def test_scalars_are_of_tensors_with_more_than_one_dimension() -> None:
    lwn = np.array([[2.0, 3.0, 99.0], [8.0, 5.0, 99.0]], dtype=np.float32)
    lgn = np.array([[1.0, 1.0, 0.1], [0.0, 10.0, 0.1]], dtype=np.float32)
    ratio = np.array([[0.1, 0.2, 1.0], [0.3, np.nan, 1.0]], dtype=np.float32)
    numbers = np.zeros(2, dtype=np.int64)
    found = LayerTable(("a", "b", "bias"), (4, 2, 1), numbers, numbers, lwn, lgn, ratio).scalars()
    assert found == pytest.approx(
        {
            "layers/lwn_median": 4.0,
            "layers/lgn_median": 1.0,
            "layers/lnr_median": 2.0,  # of 2, 3, inf, 0.5
            "layers/lnr_max": 3.0,
            "layers/trust_ratio_median": 0.2,
        }
    )
    assert table(1).scalars() == {}
