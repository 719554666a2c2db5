import json

import numpy as np

from study.analysis.traces import Trace, read_reports, read_traces, thinned
from study.look import job_of, open_study
from study.records import CONFIRM
from trainables.diagnostics.layer_table import LayerFile


def test_confirm_runs_are_read_from_their_folders(begin_home, make_layers) -> None:
    place = begin_home(None, diagnostics={"layer_statistics": 1})
    record = open_study(place.folder)
    confirms = [trial for trial in record.trials if trial.phase == CONFIRM]
    first = job_of(record, confirms[0])
    table = make_layers([[1, 2, 3], [4, 5, 6]], [[1, 1, 1], [2, 2, 2]])
    LayerFile(place.layers(first.folder)).append(table)
    traces = read_traces(record, place)
    assert set(traces) == {trial.number for trial in confirms}
    assert [report["epoch"] for report in traces[first.number].reports] == list(range(1, 11))
    found = traces[first.number].layers
    assert found is not None
    np.testing.assert_array_equal(found.lwn, table.lwn)
    assert all(trace.layers is None for number, trace in traces.items() if number != first.number)


def test_a_study_without_diagnostics_reads_nothing(begin_home) -> None:
    place = begin_home(None)
    record = open_study(place.folder)
    place.layers("x").parent.mkdir()
    assert read_traces(record, place) == {}


def test_missing_and_broken_files_are_left_out(begin_home) -> None:
    place = begin_home(None, diagnostics={"curvature": 2})
    record = open_study(place.folder)
    confirms = [trial for trial in record.trials if trial.phase == CONFIRM]
    folders = [job_of(record, trial).folder for trial in confirms]
    (place.trial(folders[0]) / "reports.jsonl").unlink()
    place.layers(folders[1]).write_text("no json\n")
    place.layers(folders[2]).write_text('{"names": ["a"], "dimensions": [2]}\n{"epoch": 1}\n')
    traces = read_traces(record, place)
    assert traces[confirms[0].number] == Trace()
    assert traces[confirms[1].number].layers is None
    assert traces[confirms[2].number].layers is None
    assert traces[confirms[2].number].reports


def test_torn_and_repeated_reports(tmp_path) -> None:
    path = tmp_path / "reports.jsonl"
    lines = [{"epoch": 2.0, "x": 1.0}, {"epoch": 1.0}, {"epoch": 2.0, "x": 2.0}, {"no": "epoch"}]
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"epoch": 3.0, "x"')
    assert read_reports(path) == ({"epoch": 1.0}, {"epoch": 2.0, "x": 2.0})
    assert read_reports(tmp_path / "none") == ()


def test_records_made_twice_count_once(begin_home, make_layers) -> None:
    place = begin_home(None, diagnostics={"layer_statistics": 1})
    record = open_study(place.folder)
    trial = next(trial for trial in record.trials if trial.phase == CONFIRM)
    file = LayerFile(place.layers(job_of(record, trial).folder))
    for step, value in ((0, 1.0), (1, 2.0), (0, 3.0), (1, 4.0), (2, 5.0)):  # it went on from the start after a crash
        file.append(make_layers([[value, 1]], [[1, 1]], steps=(step,)) if step else make_layers([[value, 1]], [[1, 1]]))
    table = read_traces(record, place)[trial.number].layers
    assert table is not None
    assert table.steps.tolist() == [0, 1, 2]
    assert table.lwn[:, 0].tolist() == [3, 4, 5]


def test_thinning_keeps_both_ends(make_layers) -> None:
    table = make_layers(np.arange(1000)[:, None] * [1, 1], np.ones((1000, 2)))
    found = thinned(table, 10)
    assert len(found.steps) == 10
    assert (found.steps[0], found.steps[-1]) == (0, 999)
    np.testing.assert_array_equal(found.lwn[:, 0], found.steps)
    assert thinned(found, 10) is found


def test_the_newest_value_and_the_sum_of_a_key() -> None:
    trace = Trace(({"epoch": 1.0, "a": 2.0}, {"epoch": 2.0, "a": 3.0}, {"epoch": 3.0}))
    assert (trace.last("a"), trace.last("b"), trace.total("a"), trace.total("b")) == (3.0, None, 5.0, 0.0)
