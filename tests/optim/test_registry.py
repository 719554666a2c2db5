import copy
import io
import math

import numpy as np
import pytest
import torch

from optim import ARMS, CLARS, LAMB, LARS, OPTIMIZERS, TVLARS, build_arm, sigmoid_decay, warmup_cosine

NEEDED = {
    "warmup_cosine": {"warmup_epochs": 2.0},
    "sigmoid": {"decay_epochs": 3.0, "delay_epochs": 1.0},
    "constant": {"decay_epochs": 3.0, "delay_epochs": 1.0},
    "cosine": {},
}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))


def arm_of(name, model, *, lr=0.5, steps_per_epoch=5, total_steps=50, one_d_lr="capped", ratio=1.0, seed=0, **knobs):
    return build_arm(
        name,
        model.named_parameters(),
        lr=lr,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        one_d_lr=one_d_lr,
        batch_size_ratio=ratio,
        model=model,
        seed=seed,
        hyperparameters={**NEEDED[ARMS[name].schedule], **knobs},
    )


def test_every_arm_names_a_known_optimizer():
    assert {info.optimizer for info in ARMS.values()} <= set(OPTIMIZERS)
    assert all(name == info.name for table in (ARMS, OPTIMIZERS) for name, info in table.items())
    assert set(ARMS) == {
        *("sgd", "sgd_warmup", "adamw", "adamw_warmup", "lars", "lars_warmup", "lamb", "lamb_warmup"),
        *("tvlars", "lars_sigmoid", "sgd_sigmoid", "lamb_sigmoid", "clars", "clars_warmup"),
    }


@pytest.mark.parametrize("name", sorted(ARMS))
def test_every_arm_splits_the_parameters_alike(model, name):
    arm = arm_of(name, model, weight_decay=0.1, lr=3.0)
    adapted, rest = arm.optimizer.param_groups
    assert [p.ndim for p in adapted["params"]] == [4, 2]
    assert [p.ndim for p in rest["params"]] == [1, 1, 1, 1]
    assert (adapted["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert (adapted["lr"], rest["lr"]) == (3.0, 1.0)


@pytest.mark.parametrize("name", sorted(ARMS))
def test_every_arm_learns(model, name):
    arm = arm_of(name, model, lr=0.01)
    target = torch.nn.Linear(4, 2)
    inputs = torch.randn(64, 4)

    def loss():
        return ((model[2](inputs) - target(inputs).detach()) ** 2).mean()

    first = float(loss().detach())
    for step in range(50):
        arm.prepare_step(step)
        arm.optimizer.zero_grad()
        loss().backward()
        arm.optimizer.step()
    assert float(loss().detach()) < 0.9 * first


@pytest.mark.parametrize(
    ("one_d_lr", "lr", "expected"),
    [
        ("raw", 10.0, 10.0),
        ("capped", 10.0, 1.0),
        ("capped", 0.3, 0.3),
        (0.024, 10.0, 0.24),
        (2, 10.0, 20.0),
    ],
)
def test_learning_rate_of_one_d_tensors_at_its_peak(model, one_d_lr, lr, expected):
    arm = arm_of("lars_warmup", model, lr=lr, one_d_lr=one_d_lr)
    arm.prepare_step(9)  # the last step of the warm-up
    assert [group["lr"] for group in arm.optimizer.param_groups] == pytest.approx([lr, expected], rel=1e-15)
    arm.prepare_step(4)  # half-way up: the schedule acts on the capped rate, not before the cap
    assert [group["lr"] for group in arm.optimizer.param_groups] == pytest.approx([lr / 2, expected / 2])


@pytest.mark.parametrize("one_d_lr", ["rawest", 0.0, -1.0, math.inf, math.nan, True, None])
def test_illegal_one_d_lr_is_refused(model, one_d_lr):
    with pytest.raises(ValueError, match="one_d_lr must be raw, capped or a factor above 0, but got"):
        arm_of("lars", model, one_d_lr=one_d_lr)


def test_an_empty_group_is_left_out():
    for params in ([torch.nn.Parameter(torch.ones(2, 2))], [torch.nn.Parameter(torch.ones(2))]):
        arm = build_arm(
            "lars",
            [("only", params[0])],
            lr=2.0,
            steps_per_epoch=1,
            total_steps=2,
            hyperparameters={"weight_decay": 0.1},
        )
        assert [group["params"] for group in arm.optimizer.param_groups] == [params]


def test_schedules_of_the_arms(model):
    for step in (0, 3, 9, 10, 30, 49):
        cosine = warmup_cosine(step, 0, 50)
        assert arm_of("lamb", model).lr_factor(step) == arm_of("sgd", model).lr_factor(step) == cosine
        warm = arm_of("lars_warmup", model, warmup_epochs=1.5)  # 7.5 steps round to 8
        assert warm.lr_factor(step) == warmup_cosine(step, 8, 50)
        late = arm_of("adamw_warmup", model, warmup_start="zero")
        assert late.lr_factor(step) == warmup_cosine(step, 10, 50, start="zero")
        phi = sigmoid_decay(step, 1 / 15, 5)
        assert arm_of("tvlars", model).lr_factor(step) == 1.0
        for name in ("lars_sigmoid", "sgd_sigmoid", "lamb_sigmoid"):
            assert arm_of(name, model).lr_factor(step) == phi


def test_phi_and_effective_learning_rate(model):
    for step in (0, 7, 49):
        phi = sigmoid_decay(step, 1 / 15, 5)
        for name in ("tvlars", "lars_sigmoid", "sgd_sigmoid", "lamb_sigmoid"):
            arm = arm_of(name, model, lr=2.0)
            assert arm.phi(step) == phi
            assert arm.lr_effective(step) == pytest.approx(2.0 * phi, rel=1e-15)  # once, wherever phi acts
        plain = arm_of("lars", model, lr=2.0)
        assert plain.phi(step) is None
        assert plain.lr_effective(step) == 2.0 * warmup_cosine(step, 0, 50)


def test_tvlars_moves_by_the_phi_that_its_arm_reports(model):
    arm = arm_of("tvlars", model, momentum=0.0, one_d_lr="raw", lr=0.5, alpha=0.7)
    bias = model[2].bias
    for step in range(4):
        before = bias.detach().clone()
        bias.grad = torch.ones_like(bias)
        arm.prepare_step(step)
        arm.optimizer.step()
        torch.testing.assert_close(before - bias.detach(), torch.full((2,), arm.lr_effective(step)))


@pytest.mark.parametrize("steps_per_epoch", [1, 8, 97])
def test_knobs_in_epochs_mean_the_same_at_any_batch_size(model, steps_per_epoch):
    knobs = {"decay_epochs": 4.0, "delay_epochs": 2.5}
    arm = arm_of("tvlars", model, steps_per_epoch=steps_per_epoch, total_steps=1000, **knobs)
    group = arm.optimizer.param_groups[0]
    assert group["lambda_"] == pytest.approx(1 / (4.0 * steps_per_epoch), rel=1e-15)
    assert group["delay_steps"] == 2.5 * steps_per_epoch
    assert arm.phi(6 * steps_per_epoch) == pytest.approx(1 / (1 + math.exp((6 - 2.5) / 4)) + 1e-3, rel=1e-12)


def test_gamma_min_taken_literally(model):
    for name in ("tvlars", "lars_sigmoid"):
        assert arm_of(name, model, gamma_min="paper_literal", ratio=16.0).phi(10**9) == pytest.approx(0.016)
        assert arm_of(name, model, gamma_min=0.2, ratio=16.0).phi(10**9) == pytest.approx(0.2)
        assert arm_of(name, model, ratio=16.0).phi(10**9) == pytest.approx(0.001)
    with pytest.raises(ValueError, match="gamma_min must be a number or paper_literal, but got 'paper'"):
        arm_of("tvlars", model, gamma_min="paper")


def test_hyperparameters_reach_the_optimizer(model):
    lars = arm_of("lars", model, momentum=0.8, trust_coefficient=0.02, nesterov=True).optimizer
    assert isinstance(lars, LARS)
    assert [lars.param_groups[0][k] for k in ("momentum", "trust_coefficient", "nesterov")] == [
        0.8,
        0.02,
        True,
    ]
    lamb = arm_of("lamb", model, beta1=0.8, beta2=0.95, eps=1e-3, bias_correction=False).optimizer
    assert isinstance(lamb, LAMB)
    assert [lamb.param_groups[0][k] for k in ("betas", "eps", "bias_correction")] == [
        (0.8, 0.95),
        1e-3,
        False,
    ]
    tvlars = arm_of("tvlars", model, alpha=0.1, gamma_min=0.3).optimizer
    assert isinstance(tvlars, TVLARS)
    assert [tvlars.param_groups[0][k] for k in ("alpha", "gamma_min", "momentum")] == [0.1, 0.3, 0.9]
    clars = arm_of("clars", model, momentum=0.7, trust_coefficient=0.03, nesterov=True).optimizer
    assert isinstance(clars, CLARS)
    assert [clars.param_groups[0][k] for k in ("momentum", "trust_coefficient", "nesterov")] == [0.7, 0.03, True]
    adamw = arm_of("adamw", model, beta1=0.7).optimizer
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.param_groups[0]["betas"] == (0.7, 0.999)
    sgd = arm_of("sgd", model).optimizer
    assert isinstance(sgd, torch.optim.SGD)
    assert [sgd.param_groups[0][k] for k in ("momentum", "nesterov")] == [0.9, True]


@pytest.mark.parametrize("name", sorted(ARMS))
def test_unknown_hyperparameters_are_refused_with_what_is_allowed(model, name):
    for unknown in ("base_lr", "init", "warmup"):
        with pytest.raises(ValueError, match=rf"{name} takes no {unknown}; it takes .*weight_decay"):
            arm_of(name, model, **{unknown: 1.0})


def test_each_arm_takes_the_knobs_of_its_own_schedule_only(model):
    for name, knob in (
        ("lars", "warmup_epochs"),
        ("lars_warmup", "decay_epochs"),
        ("tvlars", "warmup_epochs"),
    ):
        with pytest.raises(ValueError, match=f"{name} takes no {knob}"):
            arm_of(name, model, **{knob: 1.0})


@pytest.mark.parametrize(("name", "knob"), [("lars_warmup", "warmup_epochs"), ("tvlars", "delay_epochs")])
def test_a_missing_hyperparameter_is_named(model, name, knob):
    with pytest.raises(ValueError, match=f"{name} needs .*{knob}"):
        build_arm(
            name,
            model.named_parameters(),
            lr=1.0,
            steps_per_epoch=1,
            total_steps=1,
            hyperparameters={},
        )


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("lars_warmup", {"warmup_epochs": 11}, "warmup_steps=55, total_steps=50"),
        ("lars_warmup", {"warmup_epochs": -1}, "warmup_epochs=-1"),
        ("lars_warmup", {"warmup_start": "two"}, "start must be one of one, zero, but got 'two'"),
        ("tvlars", {"decay_epochs": 0}, "decay_epochs=0"),
        ("lars_sigmoid", {"delay_epochs": "soon"}, "delay_epochs='soon'"),
        ("sgd_sigmoid", {"alpha": 0.0}, "alpha=0"),
        ("lars", {"momentum": 1.5}, "momentum=1.5"),
    ],
)
def test_illegal_values_are_refused_when_the_arm_is_built(model, name, knobs, message):
    with pytest.raises(ValueError, match="must") as refusal:
        arm_of(name, model, **knobs)
    assert message in str(refusal.value)


def test_an_unknown_arm_is_refused_with_the_known_ones(model):
    with pytest.raises(ValueError, match=r"no arm is called 'larz'; there are adamw, .*tvlars"):
        build_arm(
            "larz",
            model.named_parameters(),
            lr=1.0,
            steps_per_epoch=1,
            total_steps=1,
            hyperparameters={},
        )


@pytest.mark.parametrize("name", sorted(ARMS))
def test_numbers_of_numpy_do_not_reach_the_state(model, name):
    knobs = {knob: np.float64(value) for knob, value in NEEDED[ARMS[name].schedule].items()}
    sizes = {
        "lr": np.float64(0.5),
        "steps_per_epoch": np.int64(5),
        "total_steps": np.int64(50),
        "one_d_lr": np.float32(2),
    }
    arm = arm_of(name, model, **sizes, weight_decay=np.float64(0.1), **knobs)
    arm.prepare_step(np.int64(1))
    file = io.BytesIO()
    torch.save(arm.optimizer.state_dict(), file)
    file.seek(0)
    groups = torch.load(file, weights_only=True)["param_groups"]
    assert [group["initial_lr"] for group in groups] == [0.5, 1.0]
    assert {type(arm.lr), type(arm.lr_factor(1)), type(arm.lr_effective(1))} == {float}


@pytest.mark.parametrize("name", sorted(ARMS))
def test_a_resumed_arm_goes_on_as_before(model, name):
    def advance(arm, model, step):
        arm.optimizer.zero_grad()
        images = torch.randn(20, 3, 3, 3, generator=torch.Generator().manual_seed(step))
        model[2](model[1](model[0](images)).flatten(1)).square().mean().backward()
        arm.prepare_step(step)
        arm.optimizer.step()

    knobs = {"sample_norms": "subset", "norm_samples": 3} if ARMS[name].optimizer == "clars" else {}
    arm = arm_of(name, model, **knobs)
    for step in range(4):
        advance(arm, model, step)
    other_model = copy.deepcopy(model)
    other = arm_of(name, other_model, lr=0.5, **knobs)
    other.optimizer.load_state_dict(copy.deepcopy(arm.optimizer.state_dict()))
    for step in range(4, 8):
        advance(arm, model, step)
        advance(other, other_model, step)
    for a, b in zip(model.parameters(), other_model.parameters(), strict=True):
        assert torch.equal(a, b)
