import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from search_spaces import Float, Int
from study.analysis.summary import summarize
from study.records import CONFIRM, SEARCH
from study.reporting.figures import accuracy_figure, curves_figure, knob_figure, metric_limits
from study.reporting.frames import accuracy_frame, curve_frame, knob_frame
from study.reporting.palette import arm_colours

COLOURS = arm_colours(["lars", "lars_warmup", "tvlars", "lamb_warmup", "sgd_warmup"])


def lines_in(figure: Figure, marker: str) -> list[np.ndarray]:
    (axes,) = figure.axes
    return [line.get_xydata() for line in axes.lines if line.get_marker() == marker]


def test_every_repeat_is_a_dot_and_every_interval_a_line(make_record) -> None:
    block = summarize(make_record()).blocks[0]
    figure = accuracy_figure(accuracy_frame(block), COLOURS)
    dots = lines_in(figure, "o")
    for cell, drawn in zip(block.cells, dots, strict=True):
        assert drawn[:, 0].tolist() == pytest.approx([score.points for score in cell.scores])
    ends = [tuple(line.get_xdata()) for line in figure.axes[0].lines]
    assert all((cell.interval.low, cell.interval.high) in ends for cell in block.cells if cell.interval)
    assert figure.axes[0].get_xlabel() == "Test accuracy (%)"


def test_equal_repeats_are_all_visible(make_record) -> None:
    figure = accuracy_figure(accuracy_frame(summarize(make_record(all_diverged=True)).blocks[0]), COLOURS)
    for dots in lines_in(figure, "o"):
        assert len({tuple(dot) for dot in dots}) == 3


def test_curves_are_thin_for_search_and_thick_for_confirm(make_record) -> None:
    record = make_record()
    block = record.plan.blocks[0]
    frame = curve_frame(record, block)
    own = frame[frame["arm"] == "lars"]
    figure = curves_figure(own, COLOURS["lars"], 20, block.rungs, (0, 100))
    (axes,) = figure.axes
    search, confirm = (c for c in axes.collections if isinstance(c, LineCollection))
    assert len(search.get_segments()) == own[own["phase"] == SEARCH]["number"].nunique() == 18
    assert len(confirm.get_segments()) == own[own["phase"] == CONFIRM]["number"].nunique() == 3
    assert search.get_linewidth()[0] < confirm.get_linewidth()[0]
    assert to_hex(search.get_color()[0]) == to_hex(confirm.get_color()[0]) == COLOURS["lars"]
    assert axes.get_ylim() == (0, 100)
    assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() != "None"] == list(block.rungs)
    (crosses,) = lines_in(figure, "x")
    assert crosses[:, 0].tolist() == [4, 4, 4]
    assert crosses[:, 1].tolist() == pytest.approx([10, 10, 10])


def test_long_curves_are_thinned_and_keep_their_end(make_record) -> None:
    record = make_record(arms=("lars",), repeats=1, trials=1, spec={"train": {"epochs": 1000}})
    figure = curves_figure(curve_frame(record, record.plan.blocks[0]), COLOURS["lars"], 1000, (), (0, 100))
    for collection in figure.axes[0].collections:
        for segment in collection.get_segments():
            assert 2 < len(segment) <= 80
            assert segment[-1][0] == 1000


def test_one_epoch_is_a_dot(make_record) -> None:
    record = make_record(arms=("sgd",), repeats=1, trials=1, spec={"train": {"epochs": 1}, "search": {"trials": 1}})
    figure = curves_figure(curve_frame(record, record.plan.blocks[0]), COLOURS["lars"], 1, (), (0, 100))
    assert sum(map(len, lines_in(figure, "."))) == len(record.trials)


def test_the_parameter_view_separates_outcomes_and_rings_the_winners(make_record) -> None:
    record = make_record()
    cell = next(cell for cell in summarize(record).cells if cell.cell.arm == "lars")
    frame = knob_frame(record, cell.cell, "base_lr")
    numbers = [winner.number for winner in cell.winners]
    dimension = cell.cell.dimensions["base_lr"]
    assert isinstance(dimension, Float)
    figure = knob_figure(frame, "base_lr", dimension, numbers, COLOURS["lars"], (0, 100))
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlim()[0] < dimension.low < dimension.high < axes.get_xlim()[1]
    (crosses,) = lines_in(figure, "x")
    assert len(crosses) == 3
    pruned, complete, rings = lines_in(figure, "o")
    assert (len(pruned), len(complete), len(rings)) == (6, 9, 3)
    assert sorted(rings[:, 0]) == pytest.approx(sorted(winner.params["base_lr"] for winner in cell.winners))


def test_a_single_point_range_can_be_drawn(make_record) -> None:
    record = make_record(arms=("lars",), repeats=1)
    frame = knob_frame(record, record.plan.cells[0], "base_lr")
    for dimension in (Float(low=1, high=1), Int(low=2, high=2, log=True)):
        assert knob_figure(frame, "base_lr", dimension, [], COLOURS["lars"], (0, 100)).axes


@pytest.mark.parametrize(
    ("values", "limits"), [([0.12, 0.97], (10, 102)), ([0.5], (50, 52)), ([], (0, 102)), ([float("nan"), 0.0], (0, 2))]
)
def test_metric_limits(values: list[float], limits: tuple[float, float]) -> None:
    assert metric_limits(values) == limits
