from dataclasses import replace

from study.analysis.flags import CONFIRM_DIVERGED, EDGE, KINDS, SHORT, SKEWED, STOPPED, TIED, UNFINISHED
from study.analysis.summary import summarize
from study.records import CONFIRM, DIVERGED, FAILED, PRUNED, SEARCH, STOPPED_BY_USER


def flags_of(record, arm: str) -> dict[str, str]:
    cell = next(cell for cell in summarize(record).cells if cell.cell.arm == arm)
    assert len({flag.what for flag in cell.flags}) == len(cell.flags)
    assert {flag.what for flag in cell.flags} <= set(KINDS)
    return {flag.what: flag.detail for flag in cell.flags}


def test_a_failed_trial_leaves_its_cell_short(make_record) -> None:
    record = make_record()
    assert flags_of(record, "tvlars")[SHORT] == "17 of 18 search trials (1 failed)"
    assert SHORT not in flags_of(record, "lars_warmup")


def test_a_replaced_trial_fills_the_quota(make_record) -> None:
    record = make_record()
    failed = next(t for t in record.trials if t.state == FAILED)
    again = replace(failed, number=len(record.trials), index=6, state=DIVERGED)
    assert SHORT not in flags_of(replace(record, trials=(*record.trials, again)), "tvlars")


def test_surplus_in_one_repeat_does_not_hide_a_gap_in_another(make_record) -> None:
    record = make_record()
    extra = next(t for t in record.trials if t.cell.startswith("tvlars") and t.repeat == 0 and t.phase == SEARCH)
    extra = replace(extra, number=len(record.trials), index=6)
    assert SHORT in flags_of(replace(record, trials=(*record.trials, extra)), "tvlars")


def test_an_unfinished_study_is_not_called_short(make_record) -> None:
    found = flags_of(make_record(empty=True, finished=False), "lars")
    assert found == {UNFINISHED: "0 of 18 search trials and 0 of 3 confirm runs"}


def test_winners_at_an_edge_are_named_with_their_repeats(make_record) -> None:
    record = make_record(arms=("lars",), repeats=3)
    trials = tuple(
        replace(t, params={"base_lr": 95.0 if t.repeat != 1 else 1.0, "weight_decay": 1e-3}) for t in record.trials
    )
    assert flags_of(replace(record, trials=trials), "lars")[EDGE] == "base_lr at the high end (repeats 0, 2)"


def test_diverged_confirm_runs_are_counted(make_record) -> None:
    record = make_record(confirm_seeds=2)
    trials = tuple(
        replace(t, state=DIVERGED) if t.arm == "lars" and t.phase == CONFIRM and t.repeat == 0 else t
        for t in record.trials
    )
    found = flags_of(replace(record, trials=trials), "lars")
    assert found[CONFIRM_DIVERGED] == "2 of 6"
    assert SKEWED in found


def test_tied_repeats_are_said(make_record) -> None:
    record = make_record()
    trials = tuple(
        replace(t, metrics={"test/correct": 350.0, "test/items": 360.0}) if t.phase == CONFIRM else t
        for t in record.trials
    )
    assert TIED in flags_of(replace(record, trials=trials), "lars")
    assert TIED not in flags_of(record, "lars_warmup")


def test_what_the_user_stopped_is_marked(make_record) -> None:
    record = make_record()
    assert STOPPED not in flags_of(record, "tvlars")
    marked = replace(record, stopped_cells=("tvlars/B1077",))
    assert flags_of(marked, "tvlars")[STOPPED] == "it starts no further trials"
    assert STOPPED not in flags_of(marked, "lars")
    trials = [replace(t, reason=STOPPED_BY_USER) if t.state == PRUNED and t.repeat == 0 else t for t in record.trials]
    assert flags_of(replace(record, trials=tuple(trials)), "lars")[STOPPED] == "2 of its search trials"
