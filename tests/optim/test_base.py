"""What the base class promises of every layer-wise optimizer: checked hyperparameters, exact loading."""

import copy
import io

import numpy as np
import pytest
import torch

from optim import OPTIMIZERS

LAYER_WISE = sorted(name for name, info in OPTIMIZERS.items() if info.layer_wise)
layer_wise = pytest.mark.parametrize("name", LAYER_WISE)


def state_of(optimizer):
    states = optimizer.state_dict()["state"].values()
    return [tensor for state in states for _, tensor in sorted(state.items())]


@layer_wise
@pytest.mark.parametrize("group", [False, True], ids=["default", "in a group"])
def test_illegal_hyperparameters_are_refused_with_rule_and_value(make, name, group):
    weight = torch.nn.Parameter(torch.ones(2))
    illegal = {
        "lr": (-1.0, float("nan"), float("inf"), "0.1", True, None),
        "weight_decay": (-1e-9, float("nan")),
        "maximize": ("yes", 1.5, None),
        "nesterov": ("yes",),
        "momentum": (-0.1, 1.0),
        "trust_coefficient": (0.0, -1.0),
        "eps": (0.0, -1e-8),
        "bias_correction": ("no",),
        "lambda_": (-1e-9, float("inf")),
        "delay_steps": (-1,),
        "alpha": (0.0,),
        "gamma_min": (-1e-3,),
    }
    known = set(make(name, [weight]).defaults) - {"betas"}
    assert known <= set(illegal), "a new hyperparameter needs a line here"
    for knob in known:
        for value in illegal[knob]:
            settings = {} if group else {knob: value}
            params = [{"params": [weight], knob: value}] if group else [weight]
            with pytest.raises(ValueError, match=rf"{knob}.* but got \({knob}=") as refusal:
                make(name, params, **settings)
            assert repr(value) in str(refusal.value)


@layer_wise
def test_a_refused_group_leaves_no_trace(make, name):
    optimizer = make(name, [torch.nn.Parameter(torch.ones(2))])
    for bad in (
        {"params": [torch.nn.Parameter(torch.ones(2))], "lr": -1.0},
        {"params": [torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))]},
    ):
        with pytest.raises(ValueError, match="but got"):
            optimizer.add_param_group(bad)
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("name", sorted(set(LAYER_WISE) - {"lamb"}))
def test_nesterov_needs_momentum(make, name):
    with pytest.raises(ValueError, match=r"nesterov.*momentum=0"):
        make(name, [torch.nn.Parameter(torch.ones(2))], momentum=0.0, nesterov=True)


@layer_wise
@pytest.mark.parametrize(
    "values",
    [
        torch.ones(2, 2, dtype=torch.complex64),
        torch.ones(2, 2, dtype=torch.int64),
        torch.eye(2).to_sparse(),
    ],
    ids=["complex", "integer", "sparse"],
)
def test_unsuitable_parameters_are_refused(make, name, values):
    with pytest.raises(ValueError, match=r"dense.*real.*but got one of shape \(2, 2\)"):
        make(name, [values])


@layer_wise
def test_numbers_from_numpy_become_plain(make, name):
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = make(name, [{"params": [weight], "lr": np.float32(0.5)}], weight_decay=np.float64(0.1))
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))], "maximize": np.bool_(True)})
    assert type(optimizer.param_groups[0]["lr"]) is type(optimizer.param_groups[1]["weight_decay"]) is float
    assert optimizer.param_groups[1]["maximize"] is True
    optimizer.param_groups[0]["lr"] = np.float64(0.25)  # as a scheduler may do
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    packed = torch.load(file, weights_only=True)
    assert packed["param_groups"][0]["lr"] == 0.25


@layer_wise
def test_loaded_state_is_a_copy_with_its_own_dtype(make, problem, name):
    source = problem.parameters(torch.float32)
    optimizer = make(name, source)
    problem.advance(optimizer, source, 0, problem.gradients[0])
    kept = copy.deepcopy(state_of(optimizer))
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        params = problem.parameters(dtype)
        other = make(name, params)
        other.load_state_dict(optimizer.state_dict())
        problem.advance(other, params, 1, problem.gradients[1])
        kinds = {t.dtype for t in state_of(other) if t.is_floating_point()}
        assert kinds == {expected}
    assert all(torch.equal(a, b) for a, b in zip(kept, state_of(optimizer), strict=True))


@layer_wise
def test_hooks_see_the_load_as_with_any_optimizer(make, problem, name):
    params = problem.parameters(torch.bfloat16)
    optimizer = make(name, params)
    problem.advance(optimizer, params, 0, problem.gradients[0])
    seen = []

    def forget(_, state_dict):
        return {**state_dict, "state": {}}

    def look(loaded):
        seen.append({t.dtype for t in state_of(loaded) if t.is_floating_point()})

    other = make(name, problem.parameters(torch.bfloat16))
    handle = other.register_load_state_dict_pre_hook(forget)
    other.register_load_state_dict_post_hook(look)
    other.load_state_dict(optimizer.state_dict())
    handle.remove()
    other.load_state_dict(optimizer.state_dict())
    assert seen == [set(), {torch.float32}]
