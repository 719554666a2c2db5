"""From a study to its plan: blocks, cells, sizes, rungs and seeds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from search_spaces import Float
from search_spaces.catalog import SplitSizes
from study.errors import StudyError
from study.jobs import split_seed, trial_seed
from study.load import load_study
from study.plan import LARGEST_AUTOMATIC_MICRO_BATCH, arm_space, derive_seed, make_plan
from study.records import CONFIRM, SEARCH
from study.spec import Spec

SpecFactory = Callable[..., Spec]


def _asha(**changes: object) -> dict[str, object]:
    return {"trials": 3, "repeats": 2, "early_stopping": {"method": "asha", **changes}}


def test_one_block(make_spec: SpecFactory) -> None:
    plan = make_plan(make_spec(train={"epochs": 20}))
    (block,) = plan.blocks
    assert block.label == "B1077"
    assert (block.batch_size, block.steps_per_epoch, block.micro_batch_size) == (1077, 1, 1077)
    assert (block.sizes, block.classes, block.one_d_lr) == (SplitSizes(1077, 360, 360), 10, "capped")
    assert [cell.name for cell in plan.cells] == ["lars/B1077", "sgd/B1077"]
    assert plan.cell("sgd/B1077").arm == "sgd"
    assert all(cell.block is block for cell in plan.cells)


def test_blocks_are_a_product(make_spec: SpecFactory) -> None:
    spec = make_spec(train={"epochs": 10, "batch_size": [64, "full"], "one_d_lr": ["raw", "capped", 0.024]})
    plan = make_plan(spec)
    labels = ["B64/raw", "B1077/raw", "B64/capped", "B1077/capped", "B64/0.024", "B1077/0.024"]
    assert [block.label for block in plan.blocks] == labels
    assert {block.one_d_lr for block in plan.blocks} == {"raw", "capped", 0.024}
    assert [cell.name for cell in plan.cells] == [f"{arm}/{label}" for label in labels for arm in ("lars", "sgd")]
    assert len({cell.name for cell in plan.cells}) == len(plan.cells)
    assert [block.steps_per_epoch for block in plan.blocks[:2]] == [1077 // 64, 1]


def test_data_and_model_stand_in_the_label_where_there_are_several(
    make_spec: SpecFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from search_spaces.catalog import MODELS

    monkeypatch.setitem(MODELS, "resnet99", "another one")  # type: ignore[arg-type]
    plan = make_plan(make_spec(model=[{"name": "resnet8"}, {"name": "resnet99"}]))
    assert [block.label for block in plan.blocks] == ["B64/digits/resnet8", "B64/digits/resnet99"]
    assert plan.cells[-1].name == "sgd/B64/digits/resnet99"


def test_budget(make_spec: SpecFactory) -> None:
    spec = make_spec(
        train={"epochs": 10, "batch_size": [64, "full"]},
        search={"trials": 4, "repeats": 3},
        confirm={"seeds": 2},
    )
    plan = make_plan(spec)
    assert (plan.searches, plan.search_trials, plan.confirm_runs, plan.trials) == (12, 48, 24, 72)
    assert plan.most_epochs == 72 * 10
    assert plan.most_samples == 36 * 10 * 16 * 64 + 36 * 10 * 1077  # the last partial batch is dropped
    assert (plan.trials_per_search, plan.repeats, plan.confirm_seeds) == (4, 3, 2)
    assert plan.spec_hash == spec.digest()


@pytest.mark.parametrize(
    ("micro", "batch", "expected"),
    [("auto", 64, 64), (16, 64, 16), (999, 64, 64), ("auto", "full", 1077), (500, "full", 500)],
)
def test_micro_batch(micro: object, batch: object, expected: int, make_spec: SpecFactory) -> None:
    spec = make_spec(train={"epochs": 10, "batch_size": batch, "micro_batch_size": micro})
    assert make_plan(spec).blocks[0].micro_batch_size == expected
    assert expected <= LARGEST_AUTOMATIC_MICRO_BATCH


def test_a_searched_batch_size_names_its_cells_so(make_spec: SpecFactory) -> None:
    every = make_plan(make_spec(space={"all": {"batch_size": {"low": 16, "high": 1077, "int": True}}}))
    assert [cell.name for cell in every.cells] == ["lars/Bany", "sgd/Bany"]
    fixed = make_plan(make_spec(space={"sgd": {"batch_size": 32}}))
    assert [cell.name for cell in fixed.cells] == ["lars/B64", "sgd/B64"]
    for change in (1078, {"low": 1, "high": 1078, "int": True}, {"values": [8, 1078]}):
        with pytest.raises(StudyError, match=r"^space\.sgd\.batch_size must be at most the training set, but got 1078"):
            make_plan(make_spec(space={"sgd": {"batch_size": change}}))


@pytest.mark.parametrize(
    ("arms", "epochs", "stopping", "space", "rungs"),
    [
        (["lars", "sgd"], 20, {}, {}, (1, 3, 9)),
        (["lars", "sgd"], 20, {"reduction_factor": 2}, {}, (1, 2, 4, 8, 16)),
        (["lars", "sgd"], 27, {}, {}, (1, 3, 9)),  # the full length is no rung
        (["lars", "sgd"], 20, {"first_rung": 5}, {}, (5, 15)),
        (["lars", "lars_warmup"], 20, {}, {}, (7,)),  # a warm-up of up to 0.3 * 20 epochs
        (["lars", "tvlars"], 100, {}, {}, (31, 93)),
        (["lars", "lars_warmup"], 20, {}, {"lars_warmup": {"warmup_epochs": {"low": 0, "high": 2}}}, (3, 9)),
        (["lars", "lars_warmup"], 20, {}, {"lars_warmup": {"warmup_epochs": {"low": 0, "high": 2.5}}}, (3, 9)),
        (["lars", "lars_warmup"], 20, {}, {"lars_warmup": {"warmup_epochs": 4}}, (5, 15)),
        (["lars", "lars_warmup"], 20, {}, {"lars_warmup": {"warmup_epochs": {"values": [1, 9, 3]}}}, (10,)),
        (["lars", "lars_warmup"], 20, {"method": "none"}, {}, ()),
    ],
)
def test_rungs(
    arms: list[str],
    epochs: int,
    stopping: dict[str, object],
    space: dict[str, object],
    rungs: tuple[int, ...],
    make_spec: SpecFactory,
) -> None:
    spec = make_spec(
        arms=arms, train={"epochs": epochs, "batch_size": [64, 128]}, search=_asha(**stopping), space=space
    )
    plan = make_plan(spec)
    assert [block.rungs for block in plan.blocks] == [rungs, rungs]


def test_changes_for_all_arms_come_before_an_arms_own(make_spec: SpecFactory) -> None:
    spec = make_spec(
        arms=["lars", "lars_warmup", "adamw"],
        space={
            "all": {"momentum": 0.8, "warmup_epochs": 1, "weight_decay": 0.5, "init": "xavier_normal"},
            "lars": {"weight_decay": {"low": 0.1, "high": 0.2}},
        },
    )
    lars, warmup, adamw = (cell.space for cell in make_plan(spec).cells)
    assert lars.dimensions["weight_decay"] == Float(low=0.1, high=0.2)
    assert warmup.fixed["weight_decay"] == adamw.fixed["weight_decay"] == 0.5
    assert lars.fixed["momentum"] == warmup.fixed["momentum"] == 0.8
    assert warmup.fixed["warmup_epochs"] == 1
    assert "warmup_epochs" not in {**lars.fixed, **lars.dimensions}
    assert "momentum" not in {**adamw.fixed, **adamw.dimensions}
    assert {space.fixed["init"] for space in (lars, warmup, adamw)} == {"xavier_normal"}


def test_ranges_of_the_length_become_epochs(make_spec: SpecFactory) -> None:
    plan = make_plan(make_spec(arms=["tvlars"], train={"epochs": 50, "batch_size": 64}))
    delay = plan.cells[0].dimensions["delay_epochs"]
    assert isinstance(delay, Float)
    assert (delay.low, delay.high, delay.of_length) == (0.0, 15.0, False)


def test_derived_seeds_never_change() -> None:
    assert derive_seed(0, "train", SEARCH, 0, 0) == 2067299750  # the first 31 bits of a sha256
    assert derive_seed(0) == 804681139
    assert derive_seed("a", "b") != derive_seed("ab")
    assert derive_seed("a", 1) == derive_seed("a", "1")


def test_derived_seeds_differ() -> None:
    seeds = {
        derive_seed(seed, phase, repeat, index)
        for seed in range(3)
        for phase in (SEARCH, CONFIRM)
        for repeat in range(5)
        for index in range(50)
    }
    assert len(seeds) == 3 * 2 * 5 * 50
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_trial_seeds_pair_the_arms(make_spec: SpecFactory) -> None:
    one, other = make_plan(make_spec()), make_plan(make_spec(arms=["tvlars"], name="renamed"))
    assert trial_seed(one, 1, SEARCH, 2) == trial_seed(other, 1, SEARCH, 2)
    seeds = {trial_seed(one, r, p, i) for r in range(2) for p in (SEARCH, CONFIRM) for i in range(3)}
    assert len(seeds) == 12
    reseeded = make_plan(make_spec(search={"seed": 1}))
    assert trial_seed(reseeded, 1, SEARCH, 2) != trial_seed(one, 1, SEARCH, 2)


def test_splits_are_drawn_anew_in_each_repeat(make_spec: SpecFactory) -> None:
    plan = make_plan(make_spec())
    lars, sgd = plan.cells
    assert split_seed(plan, lars, 0) == split_seed(plan, sgd, 0)
    assert split_seed(plan, lars, 0) != split_seed(plan, lars, 1)
    still = make_plan(make_spec(data={"resplit": False}))
    assert split_seed(still, still.cells[0], 0) == split_seed(still, still.cells[0], 1)


def test_a_knob_for_all_arms_reaches_each_that_can_take_it_also_where_its_space_does_not_name_it() -> None:
    spec = load_study("digits-warmup", ["space.all={warmup_start: zero, weight_decay: 0.001, init: xavier_normal}"])
    spaces = {arm: arm_space(spec, arm) for arm in spec.arms}
    assert {arm: space.fixed.get("warmup_start") for arm, space in spaces.items()} == {
        "lars": None,
        "lars_warmup": "zero",
        "tvlars": None,
        "lamb_warmup": "zero",
        "sgd_warmup": "zero",
    }
    for space in spaces.values():
        assert space.fixed["weight_decay"] == 0.001
        assert "weight_decay" not in space.dimensions
        assert space.fixed["init"] == "xavier_normal"
