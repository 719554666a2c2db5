"""CLARS against its formula in float64 numpy, with a network whose per-sample gradients are known by hand."""

import copy
import io
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optim import CLARS, LARS, PerSampleNorms

Array = np.ndarray
STEPS = 13
B = 6


@dataclass(frozen=True)
class Problem:
    """y = W2 @ tanh(W1 @ x + b), loss = (1/B) sum_i s_ti * sum(y_i): gradients by hand, new data at every step."""

    w1: Array
    b: Array
    w2: Array
    inputs: list[Array]  # (B, 4) a step
    signs: list[Array]  # (B,) a step

    def model(self, dtype: torch.dtype) -> nn.Sequential:
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3, bias=False)).to(dtype)
        with torch.no_grad():
            for param, value in zip(model.parameters(), (self.w1, self.b, self.w2), strict=True):
                param.copy_(torch.tensor(value))
        return model

    def loss(self, model: nn.Module, step: int) -> Tensor:
        dtype = next(model.parameters()).dtype
        outputs = model(torch.tensor(self.inputs[step], dtype=dtype))
        return (outputs.sum(1) * torch.tensor(self.signs[step], dtype=dtype)).mean()

    def gradients(self, values: list[Array], step: int) -> tuple[list[Array], list[float]]:
        """Gradients of w1, b, w2, and the means over the samples of the norms of their own (0 for b)."""
        w1, b, w2 = values
        sums, means = [np.zeros_like(value) for value in values], [0.0, 0.0, 0.0]
        for x, sign in zip(self.inputs[step], self.signs[step], strict=True):
            hidden = np.tanh(w1 @ x + b)
            of_b = sign * w2.sum(0) * (1 - hidden**2)
            own = [np.outer(of_b, x), of_b, sign * np.outer(np.ones(3), hidden)]
            sums = [total + one / B for total, one in zip(sums, own, strict=True)]
            means = [mean + np.linalg.norm(one) / B for mean, one in zip(means, own, strict=True)]
        return sums, means


def lr_at(step: int) -> float:
    return (0.3, 1.0, 0.7, 0.05)[step % 4]


@pytest.fixture
def problem() -> Problem:
    rng = np.random.default_rng(3)

    def draw(*shape: int) -> Array:
        return rng.normal(size=shape).astype(np.float32).astype(np.float64)

    inputs, signs = [draw(B, 4) for _ in range(STEPS)], [draw(B) for _ in range(STEPS)]
    signs[4][...] = 0  # one step without any gradient
    return Problem(draw(5, 4), draw(5), draw(3, 5), inputs, signs)


def reference(
    problem: Problem, *, momentum: float, weight_decay: float, trust_coefficient: float, nesterov: bool
) -> list[list[Array]]:
    values = [problem.w1, problem.b, problem.w2]
    buffers = [np.zeros_like(value) for value in values]
    path = []
    for step in range(STEPS):
        gradients, means = problem.gradients(values, step)
        for k, (w, g) in enumerate(zip(values, gradients, strict=True)):
            d, q = g, 1.0
            if w.ndim > 1:
                d = g + weight_decay * w
                norm = np.linalg.norm(w)
                divisor = means[k] + weight_decay * norm
                if norm > 0 and divisor > 0:
                    q = trust_coefficient * norm / divisor
            buffers[k] = momentum * buffers[k] + q * d
            values[k] = w - lr_at(step) * (q * d + momentum * buffers[k] if nesterov else buffers[k])
        path.append(list(values))
    return path


def run(problem: Problem, dtype: torch.dtype, **knobs: object) -> list[list[Array]]:
    model = problem.model(dtype)
    optimizer = CLARS(model.parameters(), lr=9.0, sample_norms=PerSampleNorms(model), **knobs)
    path = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = lr_at(step)
        optimizer.zero_grad()
        problem.loss(model, step).backward()
        optimizer.step()
        path.append([param.detach().double().numpy().copy() for param in model.parameters()])
    return path


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("zero_layer", [False, True])
def test_trajectory_is_that_of_the_formula(problem, dtype, tolerance, nesterov, weight_decay, zero_layer):
    if zero_layer:
        problem.w2[...] = 0
    knobs = {"momentum": 0.8, "weight_decay": weight_decay, "trust_coefficient": 0.05, "nesterov": nesterov}
    expected = reference(problem, **knobs)
    for step, (got, want) in enumerate(zip(run(problem, dtype, **knobs), expected, strict=True)):
        for a, b, start in zip(got, want, (problem.w1, problem.b, problem.w2), strict=True):
            scale = max(np.linalg.norm(b), np.linalg.norm(b - start))
            assert np.linalg.norm(a - b) <= tolerance * scale, step


def test_steps_are_those_of_lars_where_all_samples_are_alike():
    torch.manual_seed(0)
    ours = nn.Linear(4, 3).double()
    theirs = copy.deepcopy(ours)
    one = torch.randn(1, 4, dtype=torch.float64)
    clars = CLARS(ours.parameters(), lr=0.5, sample_norms=PerSampleNorms(ours))
    lars = LARS(theirs.parameters(), lr=0.5)
    for _ in range(5):
        for model, optimizer, inputs in ((ours, clars, one.expand(7, 4)), (theirs, lars, one)):
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-12, atol=0)


def test_samples_that_disagree_shorten_the_step():
    moved = {}
    for spread in (0.0, 1.0, 10.0):
        model = nn.Linear(2, 1, bias=False)
        nn.init.ones_(model.weight)
        optimizer = CLARS(model.parameters(), lr=1.0, sample_norms=PerSampleNorms(model))
        model(torch.tensor([[1.0, spread], [1.0, -spread]])).mean().backward()
        optimizer.step()
        moved[spread] = float((model.weight.detach() - 1).norm())
    # ||w|| * ||g|| / mean ||g_i|| with g = (1, 0)
    for spread, length in moved.items():
        assert length == pytest.approx(1e-3 * math.sqrt(2) / math.hypot(1, spread), rel=1e-4)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def backward(model: nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(B, 4, generator=generator)
    F.cross_entropy(model(inputs), torch.randint(0, 3, (B,), generator=generator)).backward()


def test_every_step_needs_a_backward_pass_of_its_own(model):
    optimizer = CLARS(model.parameters(), lr=0.1, sample_norms=PerSampleNorms(model))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="backward pass"):
        optimizer.step()
    backward(model)
    model[2].weight.grad.zero_()
    optimizer.step()
    after = copy.deepcopy(model.state_dict())
    assert not torch.equal(before["0.weight"], after["0.weight"])
    with pytest.raises(RuntimeError, match=r"backward pass .* none since"):
        optimizer.step()
    optimizer.zero_grad()
    with pytest.raises(RuntimeError, match="backward pass"):
        optimizer.step()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in after.items())


def test_zero_grad_drops_the_norms_of_the_gradients_it_drops(model):
    norms = PerSampleNorms(model)
    optimizer = CLARS(model.parameters(), lr=0.1, sample_norms=norms)
    for set_to_none in (True, False):
        backward(model, seed=1)
        optimizer.zero_grad(set_to_none)
        backward(model)
        once = norms.mean_norms().means
        optimizer.zero_grad()
        backward(model)
        torch.testing.assert_close(norms.mean_norms().means, once, rtol=0, atol=0)
        optimizer.zero_grad()


def test_the_norms_of_the_last_step_can_be_looked_at(model):
    norms = PerSampleNorms(model, mode="subset", subset_size=3)
    optimizer = CLARS(model.parameters(), lr=0.1, sample_norms=norms)
    assert norms.latest is None
    backward(model)
    optimizer.step()
    assert norms.latest.names == ("0.weight", "2.weight")
    assert norms.latest.mode == "subset"
    assert all(0 < error < mean for mean, error in norms.latest.to_dict().values())


def test_two_optimizers_share_the_norms_of_one_model(model):
    norms = PerSampleNorms(model)
    parts = [CLARS(layer.parameters(), lr=0.1, sample_norms=norms) for layer in (model[0], model[2])]
    twin = copy.deepcopy(model)
    whole = CLARS(twin.parameters(), lr=0.1, sample_norms=PerSampleNorms(twin))
    for seed in range(3):
        for one, optimizers in ((model, parts), (twin, [whole])):
            backward(one, seed)
            for optimizer in optimizers:
                optimizer.step()
            for optimizer in optimizers:
                optimizer.zero_grad()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_parameters_that_the_norms_do_not_know_are_refused(model):
    norms = PerSampleNorms(model[0])
    with pytest.raises(ValueError, match=r"sample_norms must be made for the model .*\[\(3, 5\)\]"):
        CLARS(model.parameters(), lr=0.1, sample_norms=norms)
    optimizer = CLARS(model[0].parameters(), lr=0.1, sample_norms=norms)
    with pytest.raises(ValueError, match="sample_norms"):
        optimizer.add_param_group({"params": [model[2].weight]})
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": [model[2].bias]})


def test_a_weight_that_is_thawed_later_is_refused(model):
    model[0].weight.requires_grad_(False)
    optimizer = CLARS(model.parameters(), lr=0.1, sample_norms=PerSampleNorms(model))
    backward(model)
    optimizer.step()
    model[0].weight.requires_grad_(True)
    optimizer.zero_grad()
    before = copy.deepcopy(model.state_dict())
    backward(model)
    with pytest.raises(RuntimeError, match=r"does not know .*\(5, 4\)"):
        optimizer.step()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_a_run_resumed_from_a_file_draws_the_same_samples(model):
    def make(one: nn.Module, seed: int) -> CLARS:
        norms = PerSampleNorms(one, mode="subset", subset_size=2, seed=seed)
        return CLARS(one.parameters(), lr=0.1, weight_decay=0.01, sample_norms=norms)

    def advance(one: nn.Module, optimizer: CLARS, step: int) -> None:
        optimizer.zero_grad()
        backward(one, step)
        optimizer.step()

    optimizer = make(model, 0)
    for step in range(3):
        advance(model, optimizer, step)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    twin = copy.deepcopy(model)
    resumed = make(twin, 5)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for step in range(3, 6):
        advance(model, optimizer, step)
        advance(twin, resumed, step)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_state_without_norms_is_refused(model):
    optimizer = CLARS(model.parameters(), lr=0.1, sample_norms=PerSampleNorms(model))
    with pytest.raises(ValueError, match="state_dict must hold sample_norms, but got only param_groups, state"):
        optimizer.load_state_dict(LARS(model.parameters(), lr=0.1).state_dict())


def test_a_closure_may_do_it_all(model):
    optimizer = CLARS(model.parameters(), lr=0.1, sample_norms=PerSampleNorms(model))

    def closure() -> float:
        optimizer.zero_grad()
        backward(model)
        return 7.0

    start = model[0].weight.detach().clone()
    assert optimizer.step(closure) == 7.0
    assert not torch.equal(start, model[0].weight)


def test_a_model_without_adapted_tensors_needs_no_backward():
    model = nn.LayerNorm(3)
    optimizer = CLARS(model.parameters(), lr=0.1, sample_norms=PerSampleNorms(model))
    optimizer.step()
    model(torch.randn(2, 3)).square().sum().backward()
    optimizer.step()
