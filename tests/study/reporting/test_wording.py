from dataclasses import replace

import pytest

from study.analysis.summary import summarize
from study.records import CONFIRM
from study.reporting.wording import (
    accuracy_text,
    answer,
    duration_text,
    hours_text,
    listed,
    moment_text,
    rate_text,
    resolution_text,
)


def with_correct(record, counts: dict[str, list[int]]):
    trials = tuple(
        replace(t, metrics={"test/correct": float(counts[t.arm][t.repeat]), "test/items": 360.0})
        if t.phase == CONFIRM and t.arm in counts
        else t
        for t in record.trials
    )
    return replace(record, trials=trials)


def test_the_answer_names_overlap_and_no_winner(make_record) -> None:
    counts = {"lars": [300, 305, 302], "lars_warmup": [350, 353, 349], "tvlars": [348, 353, 350]}
    record = with_correct(make_record(arms=("lars", "lars_warmup", "tvlars")), counts)
    (text,) = answer(summarize(record))
    assert text.startswith("lars_warmup has the highest mean test accuracy, 97.4% over 3 repeats (95% interval")
    assert "Its interval overlaps with that of tvlars." in text
    assert "It does not overlap with that of lars." in text
    for word in ("significant", "better", "wins", "best"):
        assert word not in text


def test_equal_means_share_the_first_place(make_record) -> None:
    counts = {"lars": [350, 340, 345], "tvlars": [340, 345, 350]}
    (text,) = answer(summarize(with_correct(make_record(arms=("lars", "tvlars")), counts)))
    assert text.startswith("lars and tvlars share the highest mean test accuracy, 95.8%.")
    assert "lars's interval overlaps with that of tvlars." in text


def test_one_repeat_speaks_for_the_configurations_found(make_record) -> None:
    summary = summarize(make_record(repeats=1))
    (text,) = answer(summary)
    assert text.startswith("For the configurations found, ")
    assert "overlap" not in text
    assert "One repeat gives no interval" in resolution_text(summary.blocks[0], summary)


def test_a_reach_beyond_all_points_is_not_printed_as_one(make_record) -> None:
    """A t interval of two repeats can be wider than any two accuracies can differ."""
    counts = {"lars": [300, 100], "tvlars": [100, 350], "sgd": [200, 205]}
    summary = summarize(with_correct(make_record(arms=("lars", "tvlars"), repeats=2), counts))
    assert (summary.blocks[0].resolution.difference_points or 0) > 100
    text = resolution_text(summary.blocks[0], summary)
    assert text.endswith(
        "reaches 100 points and more to either side: no difference between two cells' means can be shown here."
    )
    counts["lars"], counts["tvlars"] = [200, 205], [201, 250]
    counts["lamb_warmup"], counts["sgd"] = [100, 300], [203, 204]
    counts["lars_warmup"], counts["adamw"] = [202, 206], [199, 207]
    summary = summarize(with_correct(make_record(arms=tuple(counts), repeats=2), counts))
    assert "to 100 and more, by pair of cells" in resolution_text(summary.blocks[0], summary)


def test_each_block_gets_its_own_answer(make_record) -> None:
    first, second = answer(summarize(make_record(batch_size=["full", 256])))
    assert first.startswith("In B1077, ")
    assert second.startswith("In B256, ")


def test_nothing_yet_and_everything_diverged(make_record) -> None:
    (text,) = answer(summarize(make_record(empty=True, finished=False)))
    assert text == "No confirm run has come to a result yet, so there is no test accuracy to report."
    (text,) = answer(summarize(make_record(all_diverged=True)))
    assert text.endswith("All confirm runs diverged: this is chance accuracy.")
    assert "no width" in text


def test_tied_repeats_claim_no_separation(make_record) -> None:
    counts = {"lars": [300, 305, 302], "tvlars": [350, 350, 350]}
    (text,) = answer(summarize(with_correct(make_record(arms=("lars", "tvlars")), counts)))
    assert "does not overlap" not in text


def test_resolution_in_words(make_record) -> None:
    summary = summarize(make_record())
    found = summary.blocks[0].resolution
    text = resolution_text(summary.blocks[0], summary)
    assert text.startswith("360 test images: one image is 0.28 points")
    assert f"about {found.difference_points:.1f} points to either side" in text
    assert "itself rough" in text
    five = summarize(make_record(repeats=5))
    assert "itself rough" not in resolution_text(five.blocks[0], five)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.21, "3.2 s"), (59.99, "60.0 s"), (171.4, "2 min 51 s"), (3599.7, "1 h 0 min"), (7300, "2 h 1 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_small_words() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert rate_text(None) == "none ended"
    assert moment_text("2025-03-04T05:06:07+00:00") == "2025-03-04 05:06 UTC"
    assert moment_text("yesterday") == "yesterday"


def test_hours() -> None:
    assert [hours_text(hours) for hours in (0.0, 0.0123, 0.5, 1234.5)] == ["0.00", "0.012", "0.50", "1,234.50"]


def test_what_accuracy_means() -> None:
    assert accuracy_text({"task": "classification"}) == ()
    assert accuracy_text({"task": {"name": "classification", "options": {}}}) == ()
    meaning, column = accuracy_text({"task": {"name": "barlow_twins", "options": {}}})
    assert "linear probe" in meaning
    assert "kNN" in meaning
    assert "validation split" in meaning
    assert "test split" in column
    assert accuracy_text({"task": "mine:Task"}) == ("Accuracy is what the task mine:Task reports under that name.",)
