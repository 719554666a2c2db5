import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from study.records import COMPLETE, CONFIRM, FAILED, RUNNING, SEARCH
from study.reporting.html import render_report, write_report

VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """Checks that tags nest; keeps the text outside style, and the tables by rows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        assert self.stack == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.stack:
            return
        self.words.append(data.strip())
        if self.rows and ("td" in self.stack or "th" in self.stack):
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {data.strip()}".strip()


def test_the_results_table_holds_independently_computed_numbers(make_record) -> None:
    record = make_record()
    page = Page(render_report(record))
    for arm in ("lars", "lars_warmup", "tvlars", "lamb_warmup", "sgd_warmup"):
        own = [t for t in record.trials if t.arm == arm]
        correct = np.array([t.metrics["test/correct"] for t in own if t.phase == CONFIRM])
        z = logit((correct + 0.5) / 361)
        ends = stats.t.interval(0.95, 2, loc=z.mean(), scale=stats.sem(z))
        low, high = (100 * (expit(end) * 361 - 0.5) / 360 for end in ends)
        states = [t.state for t in own if t.phase == SEARCH]
        rate = stats.binomtest(states.count("diverged"), 18).proportion_ci(method="exact")
        full = 20 * (6 + 1) * 3 + sum(t.epochs for t in own if t.state == FAILED)
        row = next(row for row in page.rows if row and row[0] == f"{arm}/B1077" and len(row) == 7)
        assert row[1:] == [
            f"{100 * correct.mean() / 360:.1f}",
            f"[{low:.1f}, {high:.1f}]",
            ", ".join(f"{100 * c / 360:.1f}" for c in correct),
            f"{states.count('diverged')} of 18 ({100 * rate.low:.0f} to {100 * rate.high:.0f}%)",
            " / ".join(str(states.count(state)) for state in ("complete", "pruned", "diverged", "failed")),
            f"{sum(t.epochs for t in own)} of {full} ({100 * sum(t.epochs for t in own) / full:.0f}%)",
        ]


def test_best_configurations_show_parameters_test_score_and_selection_value(make_record) -> None:
    record = make_record(arms=("lars",), repeats=2)
    page = Page(render_report(record))
    for confirm in (t for t in record.trials if t.phase == CONFIRM):
        search = [t for t in record.trials if t.phase == SEARCH and t.repeat == confirm.repeat and t.state == COMPLETE]
        best = max(search, key=lambda t: t.value)
        row = next(row for row in page.rows if f"base_lr {best.params['base_lr']:.3g}" in " ".join(row))
        assert row[-3:] == [
            f"{100 * confirm.metrics['test/accuracy']:.1f}",
            f"{100 * best.value:.1f}",
            str(best.number),
        ]
    assert "selection only" in page.text


def test_hostile_text_is_escaped_everywhere(make_record) -> None:
    evil = '<script>alert("x")</script><img src=x onerror=alert(1)>'
    record = make_record(question=evil, spec={"claims": []})
    trials = tuple(replace(t, reason=evil) if t.state == FAILED else t for t in record.trials)
    claim = {"id": evil, "kind": evil, "arm": "lars", "than": evil, "metric": "accuracy", "why": evil}
    versions = {evil: evil}
    record = replace(record, trials=trials, versions=versions, spec={**record.spec, "claims": [claim]})
    text = render_report(record)
    page = Page(text)
    assert {"script", "img"}.isdisjoint(tag for tag, _ in page.tags)
    assert page.text.count('alert("x")') >= 5
    assert "&lt;script&gt;" in text


def test_the_page_stands_alone(make_record) -> None:
    text = render_report(make_record(batch_size=["full", 256]))
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "img", "object"), tag
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = {attributes["href"][1:] for tag, attributes in page.tags if tag == "a"}
    assert links
    assert links <= anchors
    ids = [attributes["id"] for tag, attributes in page.tags if tag == "h2"]
    assert len(set(ids)) == len(ids) == 11


def test_figures_by_block_and_cell(make_record) -> None:
    page = Page(render_report(make_record(batch_size=["full", 256])))
    labels = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg" and "aria-label" in attributes]
    assert len(labels) == 2 * (1 + 5 + 5)
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"empty": True, "finished": False}, ["This study is unfinished.", "0 of 105 planned trials have ended"]),
        ({"finished": False}, ["This study is unfinished.", "105 of 105 planned trials have ended"]),
        ({"repeats": 1}, ["For the configurations found, ", "no interval"]),
        ({"all_diverged": True}, ["All confirm runs diverged: this is chance accuracy.", "18 of 18 (81 to 100%)"]),
        ({"arms": ("lars",), "repeats": 1}, ["is the only cell with a test accuracy", "declares no claim"]),
        ({"spec": {"space": {"all": {"base_lr": 0.5}}}}, ["base_lr is not searched over a range here."]),
    ],
)
def test_edge_cases_render_and_say_so(make_record, options, said) -> None:
    page = Page(render_report(make_record(**options)))
    for words in said:
        assert words in page.text


def test_a_running_study_and_one_without_confirm_runs(make_record) -> None:
    record = make_record()
    search = tuple(t for t in record.trials if t.phase == SEARCH)
    running = replace(search[-1], state=RUNNING, curve={}, value=None, epochs=0, metrics={})
    page = Page(render_report(replace(record, trials=(*search[:-1], running))))
    assert "This study is unfinished." in page.text
    assert "Running: 1" in page.text
    assert "No confirm run has come to a result yet" in page.text
    assert any(row[:2] == ["lars/B1077", "–"] for row in page.rows)


def test_reasons_of_diverged_and_failed_trials_are_shown(make_record) -> None:
    page = Page(render_report(make_record()))
    assert "Failed: 1" in page.text
    assert "RuntimeError: out of memory" in page.text
    assert page.text.count("the training loss was nan at step 4") == 3
    assert "Stopped early: 30" in page.text


def test_claims_are_shown_with_the_paired_difference_and_no_verdict(make_record) -> None:
    record = make_record()
    points = {
        arm: [100 * t.metrics["test/accuracy"] for t in record.trials if t.arm == arm and t.phase == CONFIRM]
        for arm in ("tvlars", "lars_warmup")
    }
    exact = stats.ttest_rel(points["tvlars"], points["lars_warmup"])
    ends = exact.confidence_interval()
    mean = np.mean(points["tvlars"]) - np.mean(points["lars_warmup"])
    text = Page(render_report(record)).text
    assert f"{mean:+.1f} points [{ends.low:+.1f}, {ends.high:+.1f}]" in text
    assert "0.02 (2 points)" in text
    assert "This version gives no verdict" in text
    for word in ("supported", "refuted", "significant"):
        assert word not in text


def test_writing_is_atomic(make_record, tmp_path, monkeypatch) -> None:
    path = tmp_path / "deep" / "report.html"
    assert write_report(make_record(arms=("lars",), repeats=1), path) == path
    before = path.read_text(encoding="utf-8")
    assert before.startswith("<!doctype html>")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_report(make_record(), path)
    assert path.read_text(encoding="utf-8") == before
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_the_report_needs_no_trainer_and_no_slow_import() -> None:
    heavy = ["torch", "ray", "optuna", "mlflow", "matplotlib.pyplot", "scipy.stats"]
    code = f"import sys, study.reporting.html, study.reporting.table; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_a_study_of_the_default_size_is_small(make_record) -> None:
    assert len(render_report(make_record())) < 300_000
