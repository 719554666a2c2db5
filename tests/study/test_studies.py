"""The shipped studies: each has its plan without a data file, asks what can be answered, and has a twin that runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scipy.stats import beta

from study import console
from study.home import StudyHome
from study.load import SHIPPED, load_study, shipped_studies
from study.names import DEFAULT_STUDY
from study.plan import Plan, make_plan
from study.records import COMPLETE, CONFIRM, FAILED
from study.sections import ClaimSpec
from study.session import load_record
from study.spec import Spec

NAMES = tuple(shipped_studies())
TWINS = tuple(name for name in NAMES if name.endswith(console.TWIN_SUFFIX))
FULL = tuple(name for name in NAMES if name not in (*TWINS, DEFAULT_STUDY))
QUICK = "batch-variance-digits"  # a grid with diagnostics: the one that the ordinary tests run
MOST_TWIN_SAMPLES = 2_500_000  # the default study plans 3.6 million and ends within four minutes on two cores


def load(name: str) -> tuple[Spec, Plan]:
    spec = load_study(name)
    return spec, make_plan(spec)


@pytest.mark.parametrize("name", NAMES)
def test_dry_run(name: str) -> None:
    spec, planned = load(name)
    assert spec.name == name
    assert len(spec.question) < 200
    assert re.fullmatch(r"[A-Z][^?]*\?", spec.question)  # one sentence
    shown = console.dry_run(spec, planned)
    assert all(f"  {cell.name}\n" in shown for cell in planned.cells)
    assert all(f"claim {claim.id}: " in shown for claim in spec.claims)


def test_what_is_promised_is_there() -> None:
    promised = """lambda-ablation delay-ablation lr-batch-grid init-ablation tvlars-classification tvlars-barlow-twins
        lars-layers clars-imagenet lr-scaling-linear lr-scaling-sqrt reality-check tvlars-apart one-d-lr sharpness
        noise-scale batch-variance"""
    assert set(FULL) == set(promised.split())
    assert set(TWINS) == {name + console.TWIN_SUFFIX for name in FULL}


@pytest.mark.parametrize("name", FULL)
def test_a_twin_asks_the_same(name: str) -> None:
    full, _ = load(name)
    twin, planned = load(name + console.TWIN_SUFFIX)
    assert [data.name for data in twin.data_sets] == ["digits"]
    assert twin.arms == full.arms
    assert (twin.task_name, twin.train.lr_scaling) == (full.task_name, full.train.lr_scaling)
    assert (twin.search.method, twin.one_d_lrs) == (full.search.method, full.one_d_lrs)
    assert twin.search.early_stopping.method == full.search.early_stopping.method
    asked = {claim.id: (claim.kind, claim.arm, claim.than, claim.over) for claim in full.claims}
    assert {claim.id: (claim.kind, claim.arm, claim.than, claim.over) for claim in twin.claims}.items() <= asked.items()
    assert bool(twin.claims) == bool(full.claims)
    measured = [
        [key for key in ("layer_statistics", "curvature", "sam_sharpness", "noise_scale") if getattr(one, key)]
        for one in (twin.diagnostics, full.diagnostics)
    ]
    assert measured[0] == measured[1]
    assert planned.repeats >= 2  # one has no interval
    assert planned.most_samples <= MOST_TWIN_SAMPLES


@pytest.mark.parametrize("name", FULL)
def test_budgets_are_honest(name: str) -> None:
    spec, planned = load(name)
    assert planned.repeats >= 5
    assert len({cell.trials for cell in planned.cells}) == 1  # a grid of an arm is no larger than another's
    stopping = spec.search.early_stopping
    assert stopping.method == "none" or (stopping.method == "asha" and stopping.audit > 0)
    for block in planned.blocks:  # BatchNorm sees as many images, whatever the batch size
        assert block.micro_batch_size == planned.blocks[0].micro_batch_size <= block.batch_size
        assert block.batch_size % block.micro_batch_size == 0


@pytest.mark.parametrize("name", FULL)
def test_sources_are_given(name: str) -> None:
    text = (SHIPPED / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# Source: ")
    assert re.search(r"^# Published|published", text, re.M)
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("name", NAMES)
def test_claims_can_come_out_both_ways(name: str) -> None:
    spec, planned = load(name)
    assert len({claim.id for claim in spec.claims}) == len(spec.claims)
    for claim in spec.claims:
        assert len(claim.why) > 10
        if claim.kind == "trend":
            assert len({block.batch_size for block in planned.blocks}) >= 3
        elif claim.kind == "rate":
            assert nothing_diverged_refutes(claim, spec, planned)
        else:  # a margin that no image stands for could not be told from none
            assert claim.margin * min(block.sizes.test for block in planned.blocks) >= 5


def nothing_diverged_refutes(claim: ClaimSpec, spec: Spec, planned: Plan) -> bool:
    """Whether an upper bound can lie below the margin at all, over all verdicts of the study together (Bonferroni)."""
    trials = planned.repeats * planned.trials_per_search
    tail = (1 - claim.level) / 2 / (len(spec.claims) * len(planned.blocks))
    return bool(beta.ppf(1 - tail, 1, trials) < claim.margin)


def test_published_settings() -> None:
    steps = 45_000 // 512  # an epoch of CIFAR-10 without its validation images
    grid = load("lambda-ablation")[1].cells[0].dimensions["decay_epochs"]
    for per_step in (1e-3, 5e-3, 1e-2):
        assert any(abs(value * per_step * steps - 1) < 0.02 for value in grid.values)  # type: ignore[union-attr]
    lamb = load("lr-scaling-sqrt")[1].cell("lamb_warmup/B256").space.fixed["base_lr"]
    assert float(lamb) * (32_768 / 256) ** 0.5 == pytest.approx(0.04, rel=0.02)
    batches = {block.batch_size for block in load("lr-batch-grid")[1].blocks}
    assert batches == {512 << power for power in range(6)}
    for name in FULL:
        for cell in load(name)[1].cells:
            if not cell.arm.startswith(("lamb", "adamw")) and name != "tvlars-barlow-twins":
                decay = cell.dimensions.get("weight_decay")
                assert decay.contains(5e-4) if decay else cell.space.fixed["weight_decay"] == 5e-4
            coefficient = {"clars": 1e-2}.get(cell.arm.removesuffix("_warmup"), 1e-3)
            assert cell.space.fixed.get("trust_coefficient", coefficient) == coefficient


def test_the_table_lists_every_study() -> None:
    text = (SHIPPED / "README.md").read_text(encoding="utf-8")
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    table = {row[0].strip("`"): row for row in rows}
    assert set(NAMES) <= set(table)
    for name in FULL:
        spec, planned = load(name)
        row = table[name]
        assert row[1] == spec.question
        assert {claim.id.split("-")[0] for claim in spec.claims if claim.id[1:2].isdigit()} <= set(
            re.findall(r"C\d+", row[2])
        )
        assert row[5] == f"{planned.trials:,}"
        assert row[6] == f"{planned.most_samples / 1e9:.1f}"


def test_the_list_groups_them() -> None:
    within_minutes, full = console.study_list().split("\n\n")
    assert all(f"\n  {name}" in within_minutes for name in (DEFAULT_STUDY, *TWINS))
    assert all(f"\n  {name}\n" in full for name in FULL)
    assert not any(f"  {name}\n" in within_minutes for name in FULL)


@pytest.mark.parametrize(
    "name", [name if name == QUICK else pytest.param(name, marks=pytest.mark.proof) for name in TWINS]
)
def test_a_twin_runs_to_its_report(name: str, tmp_path: Path) -> None:
    dropped = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "STUDY_HOME")
    done = subprocess.run(
        [sys.executable, "-m", "study.run", name, "--home", str(tmp_path)],
        env={key: value for key, value in os.environ.items() if key not in dropped},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    spec, planned = load(name)
    record = load_record(StudyHome(tmp_path, name))
    assert record.finished
    assert len(record.trials) >= planned.trials  # audits come on top
    assert not [trial.reason for trial in record.trials if trial.state == FAILED]
    report = (tmp_path / name / "report.html").read_text(encoding="utf-8")
    assert spec.question in report.replace("&#39;", "'")
    assert all(cell.name in report for cell in planned.cells)
    assert all(claim.id in report for claim in spec.claims)
    sections = re.findall(r'<h2 id="(\w+)"', report)
    assert ("grid" in sections) == planned.grid
    last = next(trial.metrics for trial in record.trials if trial.phase == CONFIRM and trial.state == COMPLETE)
    wanted = {
        "layer_statistics": ("layers", "layers/lnr_median"),
        "curvature": ("curvature", "curvature/largest"),
        "sam_sharpness": ("curvature", "curvature/sam_sharpness"),
        "noise_scale": ("noise", "noise/variance"),
        "target_accuracy": ("target", "target/reached"),
    }
    for key, (section, metric) in wanted.items():
        if getattr(spec.diagnostics, key):
            assert section in sections
            assert metric in last
