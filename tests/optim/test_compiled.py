"""Steps under `torch.compile`, in CUDA graphs and with a gradient scaler."""

import copy

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from optim import LayerStats, sigmoid_decay

NAMES = ["lars", "lamb", "tvlars"]
every_optimizer = pytest.mark.parametrize("name", NAMES)
needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
SHAPES = ((), (3,), (2, 3), (4, 2, 3, 3))


def lr_at(step):
    return 0.1 / (step + 1)


def set_lr(optimizer, lr):
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def parameters(device="cpu"):
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator).to(device)) for shape in SHAPES]
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator).to(device)
    return params


def new_gradients(params, step):
    generator = torch.Generator().manual_seed(step + 1)
    for param in params:
        param.grad.copy_(torch.randn(param.shape, generator=generator))


def follow(optimizer, params, step_once, steps=8):
    for step in range(steps):
        set_lr(optimizer, lr_at(step))
        new_gradients(params, step)
        step_once()
    return [param.detach().cpu().clone() for param in params]


@pytest.mark.parametrize(("name", "watched"), [("lars", True), ("lamb", True), ("tvlars", True), ("tvlars", False)])
def test_compiled_step_follows_a_schedule_without_compiling_again(make, name, watched):
    torch._dynamo.reset()
    params = parameters()
    plain_params = copy.deepcopy(params)
    for param, other in zip(params, plain_params, strict=True):
        other.grad = param.grad.clone()
    optimizer, plain = make(name, params, lr=torch.tensor(0.1)), make(name, plain_params)
    stats, plain_stats = (LayerStats(o) if watched else None for o in (optimizer, plain))
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(optimizer.step, backend=counter, fullgraph=True)
    ends = follow(optimizer, params, compiled, steps=5)
    # once before there is any state, and once with it
    assert counter.frame_count == 2
    for end, expected in zip(ends, follow(plain, plain_params, plain.step, steps=5), strict=True):
        torch.testing.assert_close(end, expected, rtol=1e-5, atol=1e-6)
    if stats is not None and plain_stats is not None:
        table, expected = stats.flush(), plain_stats.flush()
        for field in ("steps", "lwn", "lgn", "trust_ratio", "phi"):
            torch.testing.assert_close(*map(torch.from_numpy, (getattr(table, field), getattr(expected, field))))


@every_optimizer
@pytest.mark.usefixtures("way")
def test_a_tensor_as_learning_rate_does_as_a_number(make, name):
    ends = []
    for lr in (0.1, torch.tensor(0.1, dtype=torch.float64)):
        params = parameters()
        optimizer = make(name, params, lr=lr)
        ends.append(follow(optimizer, params, optimizer.step))
        assert optimizer.param_groups[0]["lr"] is lr or isinstance(lr, float)
    for number, tensor in zip(*ends, strict=True):
        torch.testing.assert_close(number, tensor, rtol=1e-5, atol=1e-7)


@every_optimizer
@pytest.mark.parametrize(
    "lr", [torch.tensor(-0.1), torch.tensor([0.1]), torch.tensor(1), torch.tensor(float("nan"))], ids=str
)
def test_an_unsuitable_tensor_as_learning_rate_is_refused(make, name, lr):
    with pytest.raises(ValueError, match=r"lr.* must .*but got \(lr="):
        make(name, parameters(), lr=lr)


@every_optimizer
def test_scheduler_of_torch_drives_a_tensor_lr_in_place(make, name):
    lr = torch.tensor(2.0)
    optimizer = make(name, parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: sigmoid_decay(t, 0.5, 2))
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] is lr
    assert lr.item() == pytest.approx(2.0 * sigmoid_decay(1, 0.5, 2))


@every_optimizer
def test_gradient_scaler_unscales_and_skips_overflows(make, name):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=1000)
    params = parameters()
    plain_params = [torch.nn.Parameter(param.detach().clone()) for param in params]
    optimizer, plain = make(name, params), make(name, plain_params)
    stats, plain_stats = LayerStats(optimizer), LayerStats(plain)
    for step in range(6):
        before = [param.detach().clone() for param in params]
        state = copy.deepcopy(optimizer.state_dict()["state"])
        coefficients = torch.randn(len(params), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss = sum(c * (param**2).sum() for c, param in zip(coefficients, params, strict=True))
        scaler.scale(loss).backward()
        if step == 3:
            params[2].grad[0, 0] = float("inf")
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        if step == 3:
            assert scaler.get_scale() == scale / 2
            assert all(torch.equal(a, b) for a, b in zip(before, params, strict=True))
            after = optimizer.state_dict()["state"]
            assert all(torch.equal(value, after[k][key]) for k, kept in state.items() for key, value in kept.items())
            continue
        plain.zero_grad()
        sum(c * (param**2).sum() for c, param in zip(coefficients, plain_params, strict=True)).backward()
        plain.step()
        # powers of two: scaling and back loses no bit
        assert all(torch.equal(a, b) for a, b in zip(params, plain_params, strict=True))
    assert stats.flush().lgn.tolist() == plain_stats.flush().lgn.tolist()


@every_optimizer
@pytest.mark.parametrize("watched", [False, True], ids=["", "watched"])
class TestOnAGpu:
    pytestmark = needs_gpu

    def test_a_captured_step_follows_a_schedule(self, make, name, watched):
        params, plain_params = parameters("cuda"), parameters("cuda")
        optimizer = make(name, params, lr=torch.tensor(0.0, device="cuda"))
        plain = make(name, plain_params, lr=0.0)
        stats, plain_stats = (LayerStats(o) if watched else None for o in (optimizer, plain))
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            optimizer.step()
            plain.step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            optimizer.step()
        captured = follow(optimizer, params, graph.replay)
        for end, expected in zip(captured, follow(plain, plain_params, plain.step), strict=True):
            torch.testing.assert_close(end, expected, rtol=1e-5, atol=1e-6)
        if stats is not None and plain_stats is not None:
            assert stats.flush().steps.tolist() == plain_stats.flush().steps.tolist() == list(range(9))

    def test_a_step_never_waits_for_the_device(self, make, name, watched):
        params = parameters("cuda")
        optimizer = make(name, params)
        if watched:
            LayerStats(optimizer, every=2)
        optimizer.step()
        mode = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(3):
                optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode(mode)
