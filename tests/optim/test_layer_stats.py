import copy
import dataclasses
import io
import itertools
import json

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from optim import LAMB, LARS, TVLARS, LayerStats, sigmoid_decay

# what can be watched without a model of its own; CLARS has its own test of the same
NAMES = ["lars", "lamb", "tvlars"]
every_optimizer = pytest.mark.parametrize("name", NAMES)
PHI = {"lambda_": 0.2, "delay_steps": 4}
MAKERS = {
    "lars": lambda p: LARS(p, lr=1.0, weight_decay=0.1, trust_coefficient=0.05),
    "tvlars": lambda p: TVLARS(p, lr=1.0, weight_decay=0.1, trust_coefficient=0.05, **PHI),
    "lamb": lambda p: LAMB(p, lr=0.1, weight_decay=0.1),
}


def watched(problem, name, dtype=torch.float64, **settings):
    params = problem.parameters(dtype)
    optimizer = MAKERS[name](params)
    named = [(f"layer{k}", param) for k, param in enumerate(params)]
    return params, optimizer, LayerStats(optimizer, named, **settings)


def train(problem, params, optimizer, steps):
    """Runs the steps; returns the weights before each, [step][tensor]."""
    before = []
    for step in steps:
        before.append([param.detach().double().numpy().copy() for param in params])
        problem.advance(optimizer, params, step, problem.gradients[step])
    return before


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 3e-7), (torch.bfloat16, 1e-2)])
@every_optimizer
@pytest.mark.usefixtures("way")
def test_values_are_those_of_the_formulas(problem, name, dtype, tolerance):
    params, optimizer, stats = watched(problem, name, dtype)
    before = train(problem, params, optimizer, range(6))
    table = stats.flush()
    assert table.names == tuple(f"layer{k}" for k in range(len(params)))
    assert table.steps.tolist() == list(range(6))
    assert table.lwn.shape == table.lgn.shape == table.trust_ratio.shape == table.phi.shape == (6, len(params))
    for step, (k, param) in itertools.product(range(6), enumerate(params)):
        w, g = before[step][k], problem.gradients[step][k]
        norm_w, norm_g = np.sqrt((w**2).sum()), np.sqrt((g**2).sum())
        assert table.lwn[step, k] == pytest.approx(norm_w, rel=tolerance)
        assert table.lgn[step, k] == pytest.approx(norm_g, rel=tolerance)
        if name != "lamb":
            norm_d = np.sqrt(((g + 0.1 * w) ** 2).sum())
            adapted = param.ndim > 1 and norm_w > 0 and norm_d > 0
            expected = 0.05 * norm_w / norm_d if adapted else 1.0
            assert table.trust_ratio[step, k] == pytest.approx(expected, rel=10 * tolerance)
        phi = sigmoid_decay(step, **PHI) if name == "tvlars" else 1.0
        assert table.phi[step, k] == pytest.approx(phi, rel=1e-6)
    with np.errstate(invalid="ignore", divide="ignore"):
        np.testing.assert_array_equal(table.lnr, table.lwn / table.lgn)


def test_trust_ratio_of_lamb_is_the_step_that_it_makes(problem):
    params, optimizer, stats = watched(problem, "lamb")
    plain = problem.parameters()
    twin = torch.optim.Adam(plain, lr=0.1, eps=1e-6)
    problem.advance(optimizer, params, 0, problem.gradients[0])
    problem.advance(twin, plain, 0, problem.gradients[0])
    ratios = stats.flush().trust_ratio[0]
    for k, (param, other, start) in enumerate(zip(params, plain, problem.starts, strict=True)):
        if param.ndim > 1 and not np.all(start == 0):
            u = (start - other.detach().numpy()) / problem.lr(0) + 0.1 * start
            moved = start - param.detach().numpy()
            assert ratios[k] == pytest.approx(np.linalg.norm(moved) / np.linalg.norm(problem.lr(0) * u), rel=1e-5)
        elif param.ndim <= 1:
            assert ratios[k] == 1.0


@every_optimizer
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_watching_changes_nothing(problem, name, dtype):
    params, optimizer, _ = watched(problem, name, dtype, capacity=2)
    plain = problem.parameters(dtype)
    other = MAKERS[name](plain)
    train(problem, params, optimizer, range(8))
    train(problem, plain, other, range(8))
    assert all(torch.equal(a, b) for a, b in zip(params, plain, strict=True))


@pytest.mark.parametrize(("capacity", "every"), [(3, 1), (3, 2), (1, 1), (100, 3), (4, 5)])
def test_ring_keeps_the_last_records_and_counts_the_lost(problem, capacity, every):
    params, optimizer, stats = watched(problem, "lars", capacity=capacity, every=every)
    whole_params, whole_optimizer, whole = watched(problem, "lars", capacity=50)
    seen, lost, steps = [], 0, []
    for stop in (0, 1, 5, 6, 12):
        todo = range(steps[-1] + 1 if steps else 0, stop)
        steps += list(todo)
        train(problem, params, optimizer, todo)
        train(problem, whole_params, whole_optimizer, todo)
        table = stats.flush()
        assert len(table.steps) <= capacity
        lost += table.dropped
        seen += list(zip(table.steps.tolist(), table.lwn, strict=True))
    reference = whole.flush().lwn
    assert len(seen) + lost == len(range(0, 12, every))
    assert all(step % every == 0 for step, _ in seen)
    assert sorted({step for step, _ in seen}) == [step for step, _ in seen]
    for step, row in seen:
        np.testing.assert_array_equal(row, reference[step])
    assert stats.flush().steps.size == 0


@every_optimizer
def test_position_survives_a_round_trip_mid_training(problem, name):
    params, optimizer, stats = watched(problem, name, capacity=4, every=2)
    train(problem, params, optimizer, range(5))
    stats.flush()
    train(problem, params, optimizer, range(5, 7))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)

    resumed, other, loaded = watched(problem, name, capacity=9)
    for param, value in zip(resumed, params, strict=True):
        param.data.copy_(value.detach())
    other.load_state_dict(torch.load(file, weights_only=True))
    train(problem, params, optimizer, range(7, 12))
    train(problem, resumed, other, range(7, 12))
    first, second = stats.flush(), loaded.flush()
    assert first.steps.tolist() == second.steps.tolist() == [6, 8, 10]
    for field in dataclasses.fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))
    assert all(torch.equal(a, b) for a, b in zip(params, resumed, strict=True))


def test_states_with_and_without_statistics_load_into_each_other(problem):
    params, optimizer, stats = watched(problem, "lars")
    train(problem, params, optimizer, range(2))
    plain = problem.parameters()
    other = MAKERS["lars"](plain)
    other.load_state_dict(optimizer.state_dict())
    assert other.layer_stats is None
    assert "layer_stats" not in other.state_dict()
    optimizer.load_state_dict(other.state_dict())
    assert stats.flush().steps.tolist() == [0, 1]


def test_a_state_of_other_layers_is_refused_before_anything_is_loaded(problem):
    params, optimizer, _ = watched(problem, "lars")
    train(problem, params, optimizer, range(2))
    other = problem.parameters()
    target = MAKERS["lars"](other)
    LayerStats(target)
    with pytest.raises(ValueError, match=r"same layers.*group0.param0.*layer0"):
        target.load_state_dict(optimizer.state_dict())
    assert not target.state


def test_steps_that_are_not_kept_are_not_observed(problem):
    params, optimizer, stats = watched(problem, "lars", every=3)
    seen = []
    observe = stats._observe
    stats._observe = lambda *values: (seen.append(len(steps)), observe(*values))
    steps = []
    for step in range(7):
        train(problem, params, optimizer, [step])
        steps.append(step)
    assert set(seen) == {0, 3, 6}
    assert stats.flush().steps.tolist() == [0, 3, 6]


def test_a_parameter_without_gradient_is_missing_not_zero(problem):
    params, optimizer, stats = watched(problem, "lars")
    params[3].grad = torch.ones_like(params[3])
    optimizer.step()
    optimizer.zero_grad()
    optimizer.step()
    table = stats.flush()
    assert np.isnan(table.lwn).tolist() == [[k != 3 for k in range(len(params))], [True] * len(params)]


def test_names_come_from_the_model_the_optimizer_or_the_position():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    groups = [{"params": [model[1].weight, model[1].bias]}, {"params": list(model[0].parameters())}]
    assert LayerStats(LARS(groups, 0.1), model.named_parameters()).names == ("1.weight", "1.bias", "0.weight", "0.bias")
    assert LayerStats(LARS(model.named_parameters(), 0.1)).names == ("0.weight", "0.bias", "1.weight", "1.bias")
    groups = [{"params": [model[1].weight]}, {"params": [model[0].weight, model[0].bias]}]
    assert LayerStats(LARS(groups, 0.1)).names == ("group0.param0", "group1.param0", "group1.param1")


def test_unnamed_parameters_and_bad_sizes_are_refused():
    model = torch.nn.Linear(3, 2)
    optimizer = LARS(model.parameters(), 0.1)
    with pytest.raises(ValueError, match=r"group 0 has one of shape \(2,\) at position 1"):
        LayerStats(optimizer, [("weight", model.weight)])
    for knob, value in (("capacity", 0), ("every", 0), ("capacity", 1.5), ("every", True)):
        with pytest.raises(ValueError, match=rf"1 <= {knob} .*{knob}={value}"):
            LayerStats(optimizer, model.named_parameters(), **{knob: value})
    stats = LayerStats(optimizer, model.named_parameters(), capacity=np.int64(4), every=np.int64(2))
    assert type(stats.capacity) is type(stats.every) is int
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
    with pytest.raises(RuntimeError, match="make a new LayerStats"):
        optimizer.step()


def test_the_latest_statistics_watch_and_detached_ones_do_not(problem):
    params, optimizer, first = watched(problem, "lars")
    train(problem, params, optimizer, range(2))
    second = LayerStats(optimizer)
    twins, twin = copy.deepcopy((params, optimizer))
    train(problem, twins, twin, range(2, 4))
    assert twin.layer_stats is None
    train(problem, params, optimizer, range(2, 5))
    second.detach()
    train(problem, params, optimizer, range(5, 6))
    assert first.flush().steps.tolist() == [0, 1]
    assert second.flush().steps.tolist() == [0, 1, 2]
    assert "layer_stats" not in optimizer.state_dict()


def test_a_flush_is_one_copy_to_the_host(problem, monkeypatch):
    params, optimizer, stats = watched(problem, "tvlars")
    train(problem, params, optimizer, range(3))
    copies = []
    to_host = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: copies.append(self.numel()) or to_host(self))
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: copies.append(-1))
    stats.flush()
    assert len(copies) == 1


def test_the_plain_dict_is_json(problem):
    params, optimizer, stats = watched(problem, "tvlars")
    train(problem, params, optimizer, range(2))
    plain = json.loads(json.dumps(stats.flush().to_dict()))
    assert set(plain) == {"names", "steps", "lwn", "lgn", "lnr", "trust_ratio", "phi", "dropped"}
    assert plain["steps"] == [0, 1]
    assert len(plain["lwn"]) == 2
    assert len(plain["lwn"][0]) == len(plain["names"]) == len(params)


class NoCopiesFromTheHost(TorchDispatchMode):
    """Fails where a value comes from the CPU, which makes a CUDA step wait and a CUDA graph impossible."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if "copy" in str(function):
            devices = {x.device.type for x in (*args, result) if isinstance(x, torch.Tensor)}
            assert devices == {"meta"}, (function, devices)
        return result


@every_optimizer
@pytest.mark.parametrize("watch", [False, True])
def test_off_the_cpu_a_step_neither_reads_nor_brings_a_value(name, watch):
    # tensors on the meta device have no values: whatever asks for one fails
    params = [torch.nn.Parameter(torch.empty(shape, device="meta")) for shape in ((), (3,), (2, 3), (4, 2, 3, 3))]
    optimizer = MAKERS[name](params)
    if watch:
        LayerStats(optimizer, every=2)
    for param in params:
        param.grad = torch.empty_like(param)
    optimizer.step()
    with NoCopiesFromTheHost():
        for _ in range(3):
            optimizer.step()
