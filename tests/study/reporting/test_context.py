from dataclasses import replace

import yaml

from study.analysis.summary import summarize
from study.records import AUDIT
from study.reporting.context import (
    MOST_ROWS,
    budget,
    facts,
    field_text,
    limits,
    space_rows,
    spec_yaml,
    trial_groups,
    value_text,
)
from study.spec import Spec


def test_the_printed_study_file_loads_to_the_same_plan(make_record) -> None:
    record = make_record()
    assert Spec.model_validate(yaml.safe_load(spec_yaml(record))).digest() == record.plan.spec_hash


def test_facts(make_record) -> None:
    record = make_record()
    found = {name: (value, remark) for name, value, remark in facts(record, summarize(record))}
    assert found["Trials"][0] == "105"
    assert "3 diverged, 1 failed" in found["Trials"][1]
    assert found["Epochs"][0] == f"{sum(t.epochs for t in record.trials):,}"
    assert found["Wall time"][0] == "2 min 51 s"
    assert found["Peak memory"][0] == "2.18 GiB"


def test_trials_beyond_the_plan_are_counted_apart(make_record) -> None:
    record = make_record(arms=("lars",), repeats=1)
    audit = replace(record.trials[0], number=len(record.trials), phase=AUDIT, of=0)
    record = replace(record, trials=(*record.trials, audit))
    found = {name: (value, remark) for name, value, remark in facts(record, summarize(record))}
    assert found["Trials"][0] == "8"
    assert found["Trials"][1].startswith("of 7 planned and 1 beyond the plan (audits, top-ups, replacements): ")


def test_budget_names_method_and_early_stopping(make_record) -> None:
    text = " ".join(budget(make_record().plan, make_record().spec))
    assert "3 independent searches of 6 trials (tpe, seed 0)" in text
    assert "105 trials, 2,100 epochs" in text
    assert "(asha)" in text
    plain = make_record(spec={"search": {"trials": 4, "repeats": 1}})
    assert "No trial is stopped early." in " ".join(budget(plain.plan, plain.spec))


def test_arms_that_share_a_range_share_a_row(make_record) -> None:
    searched, fixed = space_rows(make_record().plan)
    decay = [row for row in searched if row.knob == "weight_decay"]
    assert {row.arms for row in decay} == {"lars, lars_warmup, tvlars, sgd_warmup", "lamb_warmup"}
    assert all(row.why and row.source for row in searched)
    assert ("momentum", "0.9") in {(row.knob, row.range) for row in fixed}


def test_groups_hold_the_trials_that_need_a_word(make_record) -> None:
    record = make_record()
    groups = {group.state: group for group in trial_groups(record)}
    assert list(groups) == ["failed", "diverged", "pruned"]
    assert groups["diverged"].count == 3
    many = tuple(replace(record.trials[4], number=i) for i in range(MOST_ROWS + 5))
    (group,) = trial_groups(replace(record, trials=many))
    assert (len(group.trials), group.count) == (MOST_ROWS, MOST_ROWS + 5)


def test_limits_follow_the_study(make_record) -> None:
    def text(**options: object) -> str:
        record = make_record(**options)
        return " ".join(limits(record, summarize(record)))

    assert "over 3 repeats" in text()
    assert "unfinished" not in text()
    assert "for the configurations found" in text(repeats=1)
    assert "unfinished" in text(empty=True, finished=False)
    assert "digits ships no test split" in text()
    assert "digits ships no test split" not in text(spec={"data": {"name": "digits", "resplit": False}})


def test_values() -> None:
    assert [value_text(v) for v in (True, 1e-5, 0.123456, 12, "x")] == ["true", "1e-05", "0.123", "12", "x"]
    assert [field_text(v) for v in (False, 0.02)] == ["false", "0.02"]
