import pytest

from study.analysis.summary import summarize
from study.reporting.table import WIDTH, final_table

CASES = {
    "default": {},
    "one repeat": {"repeats": 1},
    "many repeats": {"repeats": 12, "trials": 2},
    "two blocks": {"batch_size": ["full", 256]},
    "long names": {"spec": {"train": {"one_d_lr": ["raw", 0.0245678912345, "capped"], "batch_size": 1024}}},
    "nothing yet": {"empty": True, "finished": False},
    "all diverged": {"all_diverged": True},
    "no early stopping": {"spec": {"search": {"trials": 4, "repeats": 2}}},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_every_line_fits_and_is_plain(make_record, options) -> None:
    record = make_record(**options)
    text = final_table(summarize(record))
    assert max(map(len, text.splitlines())) <= WIDTH == 100
    assert text.isascii()
    assert "\x1b" not in text
    for cell in record.plan.cells:
        assert text.count(cell.arm) >= 1
    for block in record.plan.blocks:
        assert f"{block.label}: digits, resnet8, batch size {block.batch_size:,}" in text


def test_a_row_holds_the_cell_s_numbers(make_record) -> None:
    summary = summarize(make_record())
    lines = final_table(summary).splitlines()
    for cell in summary.cells:
        row = next(line for line in lines if line.startswith(f"{cell.cell.name} "))
        interval = cell.interval
        assert interval is not None
        assert f"{cell.mean_points:.1f} [{interval.low:.1f}, {interval.high:.1f}]" in row
        assert " ".join(f"{score.points:.1f}" for score in cell.scores) in row
        counts = cell.search
        numbers = [counts.complete, counts.pruned, counts.diverged, counts.failed]
        assert f"{cell.epochs_spent} of {cell.epochs_full}" in row
        between = row.split(f"{cell.scores[-1].points:.1f}")[-1].split()
        assert [int(word) for word in between[:4]] == numbers


def test_columns_are_aligned(make_record) -> None:
    lines = final_table(summarize(make_record())).splitlines()
    rows = [line for line in lines if "/B1077" in line and " of " in line and not line.startswith("*")]
    assert len(rows) == 5
    assert len({row.index("[") for row in rows}) == 1
    assert len({row.index(" of ") for row in rows}) == 1


def test_flags_become_footnotes_and_a_star(make_record) -> None:
    text = final_table(summarize(make_record()))
    assert "tvlars/B1077 *" in text
    assert "* short of its quota - tvlars: 17 of 18 search trials (1 failed)" in text
    assert "360 test images: one image is 0.28 points" in text


def test_many_repeats_show_their_span(make_record) -> None:
    summary = summarize(make_record(repeats=12, trials=2))
    cell = summary.cells[0]
    points = [score.points for score in cell.scores]
    assert f"{min(points):.1f}..{max(points):.1f}" in final_table(summary)


def test_unfinished_and_single_repeat_are_said(make_record) -> None:
    assert final_table(summarize(make_record(finished=False))).startswith("Unfinished:")
    assert "for the configurations found" in final_table(summarize(make_record(repeats=1)))
    assert "Unfinished" not in final_table(summarize(make_record()))
