"""Checks that every registered optimizer passes: to join them, be registered."""

import copy
import io
import itertools

import pytest
import torch

from optim import OPTIMIZERS, LayerStats

LAYER_WISE = sorted(name for name, info in OPTIMIZERS.items() if info.layer_wise)
every = pytest.mark.parametrize("name", sorted(OPTIMIZERS))
layer_wise = pytest.mark.parametrize("name", LAYER_WISE)


def values(params):
    return [param.detach().clone() for param in params]


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def state_of(optimizer):
    return [tensor for states in optimizer.state_dict()["state"].values() for _, tensor in sorted(states.items())]


def through_a_file(state_dict):
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *itertools.product(sorted(OPTIMIZERS), [torch.float64, torch.float32]),
        *itertools.product(LAYER_WISE, [torch.bfloat16]),  # torch's own round their state to 16 bits
    ],
)
def test_resumes_bit_for_bit_from_a_file(make, problem, name, dtype):
    straight = problem.parameters(dtype)
    optimizer = make(name, straight)
    for step in range(6):
        problem.advance(optimizer, straight, step, problem.gradients[step])

    resumed = [torch.nn.Parameter(value) for value in values(straight)]
    other = make(name, resumed, lr=9.0)
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    assert_same(state_of(optimizer), state_of(other))
    assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    for step in range(6, 12):
        problem.advance(optimizer, straight, step, problem.gradients[step])
        problem.advance(other, resumed, step, problem.gradients[step])
    assert_same(values(straight), values(resumed))
    assert_same(state_of(optimizer), state_of(other))


@every
def test_a_deep_copy_goes_its_own_way(make, problem, name):
    params = problem.parameters()
    optimizer = make(name, params)
    problem.advance(optimizer, params, 0, problem.gradients[0])
    twins, twin = copy.deepcopy((params, optimizer))
    before = values(params), [t.clone() for t in state_of(optimizer)]
    problem.advance(twin, twins, 1, problem.gradients[1])
    assert_same(before[0], values(params))
    assert_same(before[1], state_of(optimizer))
    problem.advance(optimizer, params, 1, problem.gradients[1])
    assert_same(values(params), values(twins))


@every
@pytest.mark.usefixtures("way")
def test_gradients_stay_as_they_are(make, problem, name):
    for dtype in (torch.float32, torch.bfloat16):
        for knobs in ({}, {"maximize": True}, {"weight_decay": 0.0}):
            params = problem.parameters(dtype)
            optimizer = make(name, params, **knobs)
            for step in range(3):
                problem.advance(optimizer, params, step, problem.gradients[step])
                for param, gradient in zip(params, problem.gradients[step], strict=True):
                    assert torch.equal(param.grad, torch.tensor(gradient, dtype=dtype))


@every
def test_parameters_without_gradient_stay_as_they_are(make, problem, name):
    params = problem.parameters()
    optimizer = make(name, params)
    before = values(params)
    optimizer.step()
    assert_same(before, values(params))
    params[2].grad = torch.ones_like(params[2])
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, values(params), strict=True)]
    assert moved == [k == 2 for k in range(len(params))]


@every
def test_closure_computes_gradients_and_loss(make, name):
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    optimizer = make(name, [weight])

    def closure():
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).detach().item() == 25.0
    assert weight.detach().square().sum().item() < 25.0
    assert optimizer.step() is None


@every
def test_maximize_is_descent_on_the_negated_gradient(make, problem, name):
    down = problem.run(lambda p: make(name, p))
    negated = type(problem)(problem.starts, [[-g for g in gradients] for gradients in problem.gradients])
    up = negated.run(lambda p: make(name, p, maximize=True))
    problem.assert_close(up, down, 1e-14)


@every
def test_an_added_group_moves_by_its_own_hyperparameters(make, name):
    first, second = (torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float64)) for _ in range(2))
    optimizer = make(name, [first], weight_decay=0.0)
    optimizer.add_param_group({"params": [second], "lr": 0.2})
    for param in (first, second):
        param.grad = torch.ones(2, 2, dtype=torch.float64)
    optimizer.step()
    torch.testing.assert_close(second.detach() - 1, 2 * (first.detach() - 1), rtol=1e-12, atol=0)


@layer_wise
def test_a_group_added_in_training_starts_from_nothing_and_disturbs_nobody(make, problem, name):
    params, fresh = problem.parameters(), problem.parameters()
    knobs = {"delay_steps": 1e9, "lambda_": 1.0} if name == "tvlars" else {}  # phi does not move
    optimizer, alone, late = make(name, params, **knobs), make(name, problem.parameters(), **knobs), None
    twins = alone.param_groups[0]["params"]
    for step in range(8):
        if step == 3:
            optimizer.add_param_group({"params": fresh, "weight_decay": 0.2})
            late = make(name, problem.parameters(), weight_decay=0.2, **knobs)
        gradients = problem.gradients[step]
        problem.advance(optimizer, params + fresh, step, gradients + gradients)
        problem.advance(alone, twins, step, gradients)
        if late is not None:
            problem.advance(late, late.param_groups[0]["params"], step, gradients)
    assert_same(values(params), values(twins))
    assert_same(values(fresh), values(late.param_groups[0]["params"]))


@every
def test_negative_learning_rate_is_refused(make, name):
    with pytest.raises(ValueError, match=r"-0\.1|-1"):
        make(name, [torch.nn.Parameter(torch.ones(2))], lr=-0.1)


@layer_wise
def test_sparse_gradients_are_refused(make, name):
    table = torch.nn.Embedding(5, 3, sparse=True)
    table(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(RuntimeError, match=r"must be dense.*\(5, 3\).*torch.sparse_coo"):
        make(name, table.parameters()).step()


@layer_wise
def test_a_sparse_gradient_is_refused_before_any_parameter_moves(make, name):
    dense, table = torch.nn.Linear(3, 3), torch.nn.Embedding(5, 3, sparse=True)
    dense(table(torch.tensor([1, 2]))).sum().backward()
    optimizer = make(name, [{"params": list(dense.parameters())}, {"params": list(table.parameters())}])
    before = values([*dense.parameters(), *table.parameters()])
    with pytest.raises(RuntimeError, match="must be dense"):
        optimizer.step()
    assert_same(before, values([*dense.parameters(), *table.parameters()]))
    table.weight.grad = table.weight.grad.to_dense()
    optimizer.step()
    assert not torch.equal(before[0], dense.weight)


@layer_wise
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_parameters_have_32_bit_state(make, problem, name, dtype):
    params = problem.parameters(dtype)
    optimizer = make(name, params)
    for step, gradients in enumerate(problem.gradients):
        wide = [torch.nn.Parameter(param.detach().float()) for param in params]
        twin = make(name, wide)
        # the same weights, gradients and history in float32: what a step should be, but for one rounding
        history = copy.deepcopy(optimizer.state_dict())
        if history["state"]:
            twin.load_state_dict(history)
        rounded = [torch.tensor(gradient, dtype=dtype).float().numpy() for gradient in gradients]
        problem.advance(twin, wide, step, rounded)
        problem.advance(optimizer, params, step, gradients)
        for param, full in zip(params, wide, strict=True):
            torch.testing.assert_close(param.detach(), full.detach().to(dtype), rtol=1e-2, atol=1e-6)
            for key, tensor in optimizer.state[param].items():
                assert tensor.dtype in (torch.float32, torch.int64)
                torch.testing.assert_close(tensor, twin.state[full][key], rtol=1e-5, atol=1e-7)


@layer_wise
@pytest.mark.usefixtures("way")
def test_mixed_dtypes_in_a_group_do_not_touch_each_other(make, problem, name):
    dtypes = [(torch.float64, torch.float32, torch.bfloat16)[k % 3] for k in range(len(problem.starts))]
    mixed = [p for p, d in zip(problem.parameters(), dtypes, strict=True) for p in [torch.nn.Parameter(p.to(d))]]
    alone = [torch.nn.Parameter(p.detach().clone()) for p in mixed]
    together = make(name, mixed)
    apart = [make(name, [param]) for param in alone]
    for step, gradients in enumerate(problem.gradients):
        problem.advance(together, mixed, step, gradients)
        for optimizer, param, gradient in zip(apart, alone, gradients, strict=True):
            problem.advance(optimizer, [param], step, [gradient])
    for a, b in zip(mixed, alone, strict=True):
        torch.testing.assert_close(a, b)


@layer_wise
@pytest.mark.parametrize("watched", [False, True], ids=["", "watched"])
def test_mixed_devices_in_a_group_do_not_touch_each_other(make, problem, name, watched):
    params, alone = problem.parameters(), problem.parameters()
    # what is on the meta device has no values: whatever mixes them in fails
    elsewhere = [torch.nn.Parameter(param.detach().to("meta")) for param in params]
    mixed = [param for pair in zip(elsewhere, params, strict=True) for param in pair]
    together, apart = make(name, mixed), make(name, alone)
    if watched:
        LayerStats(together)
    for step, gradients in enumerate(problem.gradients):
        for param in elsewhere:
            param.grad = torch.empty_like(param)
        problem.advance(apart, alone, step, gradients)
        for group in together.param_groups:
            group["lr"] = problem.lr(step)
        for param, gradient in zip(params, gradients, strict=True):
            param.grad = torch.tensor(gradient)
        together.step()
    assert_same(values(params), values(alone))
    assert all(t.device == param.device for param in mixed for t in together.state[param].values())


@layer_wise
def test_memory_layout_does_not_matter(make, problem, name):
    images = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    ends = []
    for layout in (torch.contiguous_format, torch.channels_last):
        weight = torch.nn.Parameter(images.clone(memory_format=layout))
        optimizer = make(name, [weight])
        for step in range(3):
            weight.grad = 0.1 * (step + 1) * images  # contiguous, whatever the layout of the weight
            optimizer.step()
        ends.append(weight.detach().contiguous())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-5, atol=1e-7)


@layer_wise
@pytest.mark.parametrize("knobs", [{}, {"maximize": True}, {"weight_decay": 0.0}], ids=str)
def test_off_the_cpu_a_step_never_reads_a_value(make, name, knobs):
    # tensors on the meta device have no values: whatever asks for one fails
    params = [torch.nn.Parameter(torch.empty(shape, device="meta")) for shape in ((), (3,), (2, 3), (4, 2, 3, 3))]
    optimizer = make(name, params, **knobs)
    for _ in range(2):
        for param in params:
            param.grad = torch.empty_like(param)
        optimizer.step()
    assert {tensor.device.type for tensor in state_of(optimizer)} == {"meta"}


@every
def test_a_broken_gradient_is_not_hidden(make, name):
    for bad in (float("nan"), float("inf")):
        weight = torch.nn.Parameter(torch.ones(3, 3))
        weight.grad = torch.full((3, 3), bad)
        make(name, [weight]).step()
        assert not torch.isfinite(weight).any()
