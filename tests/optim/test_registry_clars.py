"""Arms of CLARS: their per-sample norms come with the model."""

import pytest
import torch
from torch import nn

from optim import build_arm

CLARS_ARMS = ("clars", "clars_warmup")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def arm_of(model, name="clars", named_parameters=None, seed=0, **knobs):
    return build_arm(
        name,
        list(named_parameters or model.named_parameters()),
        lr=0.5,
        steps_per_epoch=5,
        total_steps=50,
        model=model,
        seed=seed,
        hyperparameters={**({"warmup_epochs": 2.0} if name == "clars_warmup" else {}), **knobs},
    )


def pass_through(model, samples=64):
    model.zero_grad()
    model(torch.randn(samples, 3, generator=torch.Generator().manual_seed(5))).square().mean().backward()


def hooks_on(model):
    modules = sum(len(module._forward_hooks) for module in model.modules())
    return modules + sum(len(p._post_accumulate_grad_hooks or ()) for p in model.parameters())


@pytest.mark.parametrize("name", CLARS_ARMS)
def test_a_clars_arm_without_the_model_is_refused(name, model):
    knobs = {"warmup_epochs": 1.0} if name == "clars_warmup" else {}
    with pytest.raises(ValueError, match=rf"^{name} .* needs the model, but got \(model=None\)"):
        build_arm(name, model.named_parameters(), lr=1.0, steps_per_epoch=1, total_steps=9, hyperparameters=knobs)


def test_the_mode_reaches_the_norms(model):
    for knobs, mode, size in (
        ({}, "exact", 16),
        ({"sample_norms": "exact"}, "exact", 16),
        ({"sample_norms": "subset"}, "subset", 16),
        ({"sample_norms": "subset", "norm_samples": 5}, "subset", 5),
        ({"sample_norms": "micro_batch"}, "micro_batch", 16),
    ):
        arm = arm_of(model, **knobs)
        assert arm.sample_norms is arm.optimizer.sample_norms
        assert (arm.sample_norms.mode, arm.sample_norms.subset_size) == (mode, size)
        pass_through(model)
        assert arm.sample_norms.mean_norms().mode == mode
        arm.close()


def test_the_number_of_samples_counts(model):
    errors = {}
    for size in (4, 16, 64):
        arm = arm_of(model, sample_norms="subset", norm_samples=size)
        pass_through(model)
        errors[size] = float(arm.sample_norms.mean_norms().relative_standard_error())
        arm.close()
    assert errors[4] > errors[16] > errors[64] == 0  # 64 are all of them


def test_the_seed_is_that_of_the_draws(model):
    def means(seed):
        arm = arm_of(model, sample_norms="subset", norm_samples=4, seed=seed)
        pass_through(model)
        found = arm.sample_norms.mean_norms().means
        arm.close()
        return found

    assert torch.equal(means(1), means(1))
    assert not torch.equal(means(1), means(2))


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"sample_norms": "all"}, r"mode must be one of exact, subset, micro_batch, but got \(mode='all'\)"),
        ({"norm_samples": 1}, r"2 <= subset_size must hold .*subset_size=1"),
        ({"norm_samples": 2.5}, r"2 <= subset_size must hold .*subset_size=2.5"),
        ({"momentum": 1.5}, "momentum=1.5"),
    ],
)
def test_illegal_values_are_refused_and_leave_no_hooks(model, knobs, message):
    with pytest.raises(ValueError, match=message):
        arm_of(model, **knobs)
    assert hooks_on(model) == 0


def test_parameters_of_another_model_are_refused(model):
    with pytest.raises(ValueError, match="sample_norms must be made for the model with these parameters"):
        arm_of(model, named_parameters=nn.Linear(5, 7).named_parameters())
    assert hooks_on(model) == 0


def test_closing_takes_the_hooks_off(model):
    arm = arm_of(model)
    assert hooks_on(model) > 0
    arm.close()
    assert hooks_on(model) == 0
    pass_through(model)
    with pytest.raises(RuntimeError, match="there was none"):
        arm.optimizer.step()
    plain = build_arm("lars", model.named_parameters(), lr=1.0, steps_per_epoch=1, total_steps=1, hyperparameters={})
    assert plain.sample_norms is None
    plain.close()  # nothing to take off
    plain.optimizer.step()


def test_only_arms_of_clars_record(model):
    for name in ("lars", "sgd"):
        build_arm(
            name, model.named_parameters(), lr=1.0, steps_per_epoch=1, total_steps=1, model=model, hyperparameters={}
        )
    assert hooks_on(model) == 0
    for knob in ("sample_norms", "norm_samples"):
        with pytest.raises(ValueError, match=f"lars takes no {knob}"):
            build_arm(
                "lars", model.named_parameters(), lr=1, steps_per_epoch=1, total_steps=1, hyperparameters={knob: 4}
            )
