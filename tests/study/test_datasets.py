"""A study's data sets: sizes before anything is spent, and one sentence where files are missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search_spaces.catalog import SplitSizes
from study import session
from study.datasets import data_config, facts_of, require_data
from study.errors import StudyError
from study.jobs import split_seed
from study.load import load_study
from study.plan import make_plan
from study.sections import DataSpec
from study.spec import Spec


def study(**data: Any) -> Spec:
    return Spec(name="any", question="any?", arms=["lars"], data=DataSpec(**data))


@pytest.mark.parametrize(
    ("data", "sizes", "classes"),
    [
        ({"name": "digits"}, SplitSizes(1077, 360, 360), 10),
        ({"name": "cifar10"}, SplitSizes(40_000, 10_000, 10_000), 10),
        ({"name": "cifar100", "validation_fraction": 0.1}, SplitSizes(45_000, 5_000, 10_000), 100),
        ({"name": "tiny_imagenet", "validation_fraction": 0.05}, SplitSizes(95_000, 5_000, 10_000), 200),
        ({"name": "synthetic", "options": {"items": 1000, "classes": 7}}, SplitSizes(600, 200, 200), 7),
    ],
)
def test_a_plan_needs_no_files(data: dict[str, Any], sizes: SplitSizes, classes: int) -> None:
    (block,) = make_plan(study(**data)).blocks
    assert (block.sizes, block.classes) == (sizes, classes)


def test_an_image_folder_is_counted(tmp_path: Path) -> None:
    for part, count in (("train", 10), ("val", 3)):
        for name in ("ant", "bee"):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(count):
                (tmp_path / part / name / f"{index}.jpg").touch()
    data = {"name": "image_folder", "root": str(tmp_path), "options": {"image_size": 64, "load_size": 72}}
    (block,) = make_plan(study(**data)).blocks
    assert block.sizes == SplitSizes(16, 4, 6)
    assert facts_of(DataSpec(**data)).image_size == 64
    with pytest.raises(StudyError, match=r"data: image_folder in .*/nowhere must have train, val, but all of it is"):
        make_plan(study(name="image_folder", root=str(tmp_path / "nowhere")))


def test_options_reach_the_trial_and_are_checked() -> None:
    data = DataSpec(name="synthetic", options={"items": 40, "noise": 0.5})
    config = data_config(data, 7)
    assert (dict(config.options), config.split_seed, config.root) == ({"items": 40, "noise": 0.5}, 7, None)
    with pytest.raises(StudyError, match=r"data: synthetic's items must be a whole number of at least 1, but got 'x'"):
        make_plan(study(name="synthetic", options={"items": "x"}))
    spec = load_study("digits-warmup", ["data.name=synthetic", "data.options.items=1000"])
    assert spec.data_sets[0].options == {"items": 1000}


def test_a_relative_root_is_this_process_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert data_config(DataSpec(name="cifar10", root="data")).root == str(tmp_path / "data")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert data_config(DataSpec(name="cifar10", root="~/data")).root == str(tmp_path / "me" / "data")


def test_missing_files_stop_a_study_before_it_begins(tmp_path: Path) -> None:
    spec = study(name="cifar10", root=str(tmp_path / "data"))
    make_plan(spec)
    sentence = rf"data: cifar10 in {tmp_path}/data/cifar-10-batches-py must have data_batch_1, .* all of it is missing"
    with pytest.raises(StudyError, match=sentence):
        require_data(spec)
    with pytest.raises(StudyError, match=sentence):
        session.run_study(spec, home=tmp_path / "home")
    assert not (tmp_path / "home").exists()
    require_data(study())


def test_only_sets_without_a_test_split_are_resplit() -> None:
    for name, several in (("digits", 2), ("cifar10", 1)):
        plan = make_plan(study(name=name))
        assert len({split_seed(plan, plan.cells[0], repeat) for repeat in range(2)}) == several


def test_plans_come_without_numpy_and_torch() -> None:
    code = (
        "import sys\nfrom study.datasets import facts_of\nfrom study.sections import DataSpec\n"
        "facts_of(DataSpec(name='cifar10'))\nsys.exit(bool({'numpy', 'torch', 'torchvision'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
