import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from study.analysis.summary import summarize
from study.records import CONFIRM, DIVERGED
from study.reporting.measured import number_text
from study.reporting.palette import arm_colours
from study.reporting.sections import Measured, measured_view

EVERYTHING = {
    "layer_statistics": 1,
    "curvature": 4,
    "sam_sharpness": 4,
    "noise_scale": 4,
    "target_accuracy": 0.9,
}


def view(record, traces) -> Measured:
    colours = arm_colours([cell.arm for cell in record.plan.cells])
    return measured_view(record, summarize(record), traces, colours)


@pytest.fixture(scope="module")
def study(make_record, add_measurements):
    """Two arms in two blocks, everything measured."""
    spec = {"diagnostics": EVERYTHING, "search": {"trials": 4, "repeats": 3}, "claims": []}
    return add_measurements(make_record(arms=("lars_warmup", "tvlars"), batch_size=[64, "full"], spec=spec))


@pytest.fixture(scope="module")
def found(study) -> Measured:
    return view(*study)


def runs(study, cell: str):
    record, traces = study
    return [traces[t.number] for t in record.trials if t.phase == CONFIRM and t.cell == cell]


def test_every_section_is_there(found) -> None:
    assert [anchor for anchor, _ in found.links] == ["layers", "curvature", "noise", "target", "diagnostics"]
    assert [block.label for block in found.layers] == ["B64", "B1077"]
    for block in found.layers:
        assert sorted(figure.arm for figure in block.single) == ["lars_warmup", "tvlars"]
        assert len(block.maps) == 2
        assert len(block.overlays) == 3
    figures = [
        f
        for blocks in (found.layers, found.curvature, found.noise)
        for b in blocks
        for f in (*b.single, *b.overlays, *b.maps)
    ]
    for figure in figures:
        ElementTree.fromstring(figure.svg.replace("xlink:href", "href"))
    labels = [re.search(r'aria-label="([^"]+)"', figure.svg).group(1) for figure in figures]  # type: ignore[union-attr]
    assert len(set(labels)) == len(labels)


def test_last_values_are_medians_with_the_range_over_runs(study, found) -> None:
    (block,) = (block for block in found.curvature if block.label == "B64")
    rows = {arm: (count, cells) for arm, count, cells in block.finals.rows}
    assert block.finals.heads == ("Largest eigenvalue", "Smallest eigenvalue", "SAM sharpness")
    for arm in ("lars_warmup", "tvlars"):
        own = [trace.reports[-1]["curvature/largest"] for trace in runs(study, f"{arm}/B64")]
        expected = f"{np.median(own):.3g} ({min(own):.3g} to {max(own):.3g})"
        assert (rows[arm][0], rows[arm][1][0]) == (3, expected)


def test_layers_leave_tensors_of_one_dimension_out(study, found) -> None:
    (block,) = (block for block in found.layers if block.label == "B1077")
    rows = {arm: cells for arm, _, cells in block.finals.rows}
    last = np.concatenate([trace.layers.lnr[-1, :-1] for trace in runs(study, "tvlars/B1077")])
    assert rows["tvlars"][0] == " ".join(
        (number_text(float(np.median(last))), f"({number_text(float(last.min()))} to {number_text(float(last.max()))})")
    )


def test_noise_over_batch_sizes(study, found) -> None:
    (sizes,) = found.sizes
    assert sizes.setting == ""
    assert sizes.scale is not None
    assert sizes.variance is not None
    for arm, slope in sizes.slopes:
        variance = {
            size: np.mean([trace.reports[-1]["noise/variance"] for trace in runs(study, f"{arm}/B{size}")]) / size
            for size in (64, 1077)
        }
        expected = np.log(variance[1077] / variance[64]) / np.log(1077 / 64)
        assert slope == f"{expected:.2f}"


def test_one_batch_size_has_nothing_to_compare(make_record, add_measurements) -> None:
    record, traces = add_measurements(make_record(arms=("tvlars",), spec={"diagnostics": EVERYTHING}))
    found = view(record, traces)
    assert found.noise
    assert found.sizes == []


def test_times_to_target(study, found) -> None:
    record, _ = study
    (block,) = (block for block in found.targets if block.label == "B64")
    for row in block.rows:
        metrics = [t.metrics for t in record.trials if t.phase == CONFIRM and t.cell == row.cell]
        made = sorted(m["target/epochs"] for m in metrics if m["target/reached"])
        assert row.reached == f"{len(made)} of 3"
        assert row.medians[1] == (f"{made[1]:g}" if len(made) > 1 else "> 20")
        assert row.each == ", ".join([*(f"{epoch:g}" for epoch in made), *["> 20"] * (3 - len(made))])


def test_the_cost_is_a_share_of_the_epochs(study, found) -> None:
    assert {row.cell: row.share for row in found.costs} == {
        "lars_warmup/B64": pytest.approx(0.04 / 0.5),
        "tvlars/B64": pytest.approx(0.05 / 0.5),
        "lars_warmup/B1077": pytest.approx(0.06 / 0.5),
        "tvlars/B1077": pytest.approx(0.07 / 0.5),
    }


def test_all_runs_diverged(study) -> None:
    record, traces = study
    trials = tuple(
        replace(t, state=DIVERGED, epochs=2, metrics={**t.metrics, "target/reached": 0.0}) if t.phase == CONFIRM else t
        for t in record.trials
    )
    short = {number: replace(trace, reports=trace.reports[:2]) for number, trace in traces.items()}
    found = view(replace(record, trials=trials), short)
    assert found.curvature == found.noise == []
    for block in found.targets:
        assert all(row.reached == "0 of 3 (3 diverged)" for row in block.rows)
        assert all(row.medians == ("not reached",) * 3 for row in block.rows)


def test_without_traces_there_are_no_sections(study) -> None:
    record, _ = study
    assert [anchor for anchor, _ in view(record, {}).links] == ["target"]  # its metrics are in the records
    bare = replace(record, spec={**record.spec, "diagnostics": {"target_accuracy": None}})
    assert view(bare, {}).links == []


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123456, "0.0123"), (1234.5, "1,234"), (12.0, "12"), (-2345.6, "-2,346"), (1e9, "1e+09")]
)
def test_numbers(value: float, text: str) -> None:
    assert number_text(value) == text
