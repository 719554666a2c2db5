import pytest
from scipy import stats

from study.analysis.summary import summarize


def claim(**changes: object) -> dict[str, object]:
    base = {"id": "C9", "kind": "superior", "arm": "tvlars", "than": "lars", "margin": 0.01, "why": "because"}
    return {**base, **changes}


def test_the_difference_is_paired_by_repeat_in_each_block(make_record) -> None:
    record = make_record(batch_size=["full", 256], repeats=4, spec={"claims": [claim(level=0.9)]})
    summary = summarize(record)
    (found,) = summary.claims
    assert found.id == "C9"
    assert found.margin_points == pytest.approx(1.0)
    assert [row.block for row in found.differences] == ["B1077", "B256"]
    for row in found.differences:
        points = {
            arm: [
                100 * t.metrics["test/accuracy"]
                for t in record.trials
                if t.cell == f"{arm}/{row.block}" and t.phase == "confirm"
            ]
            for arm in ("tvlars", "lars")
        }
        exact = stats.ttest_rel(points["tvlars"], points["lars"]).confidence_interval(0.9)
        assert row.difference is not None
        assert (row.difference.low, row.difference.high) == pytest.approx((exact.low, exact.high))


def test_no_difference_without_two_repeats(make_record) -> None:
    (found,) = summarize(make_record(repeats=1, spec={"claims": [claim()]})).claims
    assert found.differences[0].difference is None
    assert "fewer than two repeats" in found.differences[0].note


def test_a_claim_of_another_kind_is_shown_as_declared(make_record) -> None:
    (found,) = summarize(make_record(spec={"claims": [claim(kind="rate", metric="diverged")]})).claims
    assert found.differences == ()
    assert found.margin_points is None
    assert found.fields["kind"] == "rate"


def test_no_claims(make_record) -> None:
    assert summarize(make_record(spec={"claims": []})).claims == ()
