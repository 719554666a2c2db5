"""The page of studies with grids, diagnostics, other tasks, and of those where something is missing."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from study.load import load_study
from study.records import AUDIT, COMPLETE, CONFIRM, DIVERGED, FAILED, PRUNED, SEARCH
from study.reporting.html import render_report, write_report

EVERYTHING = {
    "layer_statistics": 1,
    "curvature": 4,
    "sam_sharpness": 4,
    "noise_scale": 4,
    "target_accuracy": 0.9,
}
VOID = {"meta", "br"}


class Page(HTMLParser):
    """Checks that tags nest; keeps headings' anchors, links, labels of figures and the words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.anchors: list[str] = []
        self.links: list[str] = []
        self.labels: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.stack == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words))
        assert sorted(set(self.anchors)) == sorted(self.anchors)
        assert set(self.links) <= set(self.anchors)
        assert len(set(self.labels)) == len(self.labels)
        assert not re.search(r"<(script|link|iframe|img|object)\b|url\((?!#)", text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "h2":
            self.anchors.append(str(own["id"]))
        if tag == "a":
            self.links.append(str(own["href"])[1:])
        if tag == "svg" and "aria-label" in own:
            self.labels.append(str(own["aria-label"]))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.stack:
            self.words.append(data.strip())


def shipped(make_record, name: str, **options):
    """A made-up record of a shipped study."""
    data = load_study(name).to_dict()
    spec = {key: value for key, value in data.items() if key not in ("schema_version", "name", "question", "arms")}
    return make_record(arms=tuple(data["arms"]), spec=spec, **options)


def with_metrics(record, **metrics: float):
    trials = tuple(
        replace(t, metrics={**t.metrics, **{key.replace("_", "/", 1): v for key, v in metrics.items()}})
        if t.phase == CONFIRM
        else t
        for t in record.trials
    )
    return replace(record, trials=trials)


def test_all_diagnostics_in_several_blocks(make_record, add_measurements) -> None:
    spec = {"diagnostics": EVERYTHING, "search": {"trials": 3, "repeats": 2}, "claims": []}
    record, traces = add_measurements(make_record(arms=("lars", "tvlars"), batch_size=[256, "full"], spec=spec))
    text = render_report(record, traces)
    page = Page(text)
    assert page.anchors[4:9] == ["layers", "curvature", "noise", "target", "diagnostics"]
    assert "When validation accuracy first reached 90%" in page.text
    assert "8 batches of 64 of the same 512 training samples" in page.text
    assert "There is no mean over the runs that made it." in page.text
    assert "Slopes of straight lines through the logarithms: " in page.text
    assert not re.search(r"#[0-9a-f]{6}", text[text.index("</style>") :]), "a colour that dark mode cannot change"


def test_a_study_without_diagnostics_has_no_such_section(make_record) -> None:
    page = Page(render_report(make_record()))
    assert {"layers", "curvature", "noise", "target", "diagnostics", "grid"}.isdisjoint(page.anchors)


def test_the_report_is_written_with_its_traces(make_record, add_measurements, tmp_path) -> None:
    record, traces = add_measurements(make_record(arms=("lars",), repeats=1, spec={"diagnostics": EVERYTHING}))
    path = write_report(record, tmp_path / "report.html", traces)
    assert 'id="layers"' in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["lars-layers-digits", "lambda-ablation-digits"])
def test_grids_are_labelled_as_validation(make_record, name: str) -> None:
    page = Page(render_report(shipped(make_record, name)))
    assert "Validation values of the search, no measure of performance." in page.text
    assert re.search(r"selected \dx: test \d\d\.\d", page.text)


def test_a_grid_of_one_point(make_record) -> None:
    page = Page(render_report(shipped(make_record, "batch-variance-digits")))
    assert "Every arm has one point: nothing varies" in page.text


def test_barlow_twins_says_what_accuracy_is(make_record) -> None:
    record = shipped(make_record, "tvlars-barlow-twins-digits")
    page = Page(render_report(with_metrics(record, test_knn_accuracy=0.8125)))
    assert "Test accuracy is that of a linear probe" in page.text
    assert "kNN, %" in page.text
    assert "81.2" in page.text
    assert "kNN, %" not in Page(render_report(record)).text


def test_top_5(make_record) -> None:
    assert "top 5, %" in Page(render_report(with_metrics(make_record(), test_top5_accuracy=0.9))).text


def test_what_the_engine_recorded(make_record) -> None:
    record = make_record(arms=("lars_warmup",), repeats=2)
    stopped = next(t for t in record.trials if t.state == PRUNED)
    run = replace(stopped, number=len(record.trials), phase=AUDIT, state=COMPLETE, value=0.999, of=stopped.number)
    record = replace(
        record,
        trials=(*record.trials, run),
        ended_by="budget.device_hours=0.5",
        added=("search.trials 4 -> 6 (2025-03-05)",),
        stopped_cells=("lars_warmup/B1077",),
        device_seconds={"lars_warmup/B1077": 5400.0},
    )
    page = Page(render_report(record))
    before = page.text[: page.text.index("A description of what was measured.")]
    for words in ("(budget.device_hours=0.5)", "search.trials 4 -> 6", "The user stopped lars_warmup/B1077"):
        assert words in before
    assert "Early stopping cost a winner." in page.text
    assert "Device-hours 1.50" in page.text
    assert "1.50 of " in page.text


@pytest.mark.parametrize("states", [{SEARCH: DIVERGED, CONFIRM: DIVERGED}, {SEARCH: FAILED}, {CONFIRM: FAILED}])
def test_bad_ends(make_record, add_measurements, states: dict[str, str]) -> None:
    grid = {
        "search": {"method": "grid", "repeats": 2},
        "space": {"lars": {"base_lr": {"values": [1.0, 5.0]}, "weight_decay": 1e-4}},
        "diagnostics": EVERYTHING,
        "claims": [],
    }
    record, traces = add_measurements(make_record(arms=("lars",), repeats=2, batch_size=[256, "full"], spec=grid))
    trials = tuple(
        replace(t, state=states[t.phase], value=None if states[t.phase] == FAILED else 0.1, reason="lost")
        if t.phase in states
        else t
        for t in record.trials
    )
    Page(render_report(replace(record, trials=trials), traces))


@pytest.mark.parametrize("options", [{"repeats": 1}, {"empty": True, "finished": False}, {"all_diverged": True}])
def test_few_and_no_results_with_everything_on(make_record, add_measurements, options) -> None:
    spec = {"diagnostics": EVERYTHING, "claims": []}
    record, traces = add_measurements(make_record(arms=("lars",), batch_size=[256, "full"], spec=spec, **options))
    Page(render_report(record, traces))


def test_a_cell_without_trials_beside_others(make_record, add_measurements) -> None:
    record, traces = add_measurements(make_record(arms=("lars", "tvlars"), spec={"diagnostics": EVERYTHING}))
    trials = tuple(t for t in record.trials if t.arm != "lars")
    page = Page(render_report(replace(record, trials=trials), traces))
    assert "layers" in page.anchors


def test_forty_cells_of_several_models_and_data_sets(make_record, add_measurements) -> None:
    spec = {
        "train": {"epochs": 4, "batch_size": [64, 128]},
        "data": [{"name": "digits"}, {"name": "synthetic"}],
        "model": [{"name": "resnet8"}, {"name": "resnet20"}],
        "search": {"trials": 2, "repeats": 2},
        "diagnostics": {"noise_scale": 2, "target_accuracy": 0.5},
        "claims": [],
    }
    record, traces = add_measurements(make_record(spec=spec), target=0.5)
    assert len(record.plan.cells) == 40
    text = render_report(record, traces)
    page = Page(text)
    assert "synthetic, resnet20" in page.text
    assert len(text) < 6_000_000
