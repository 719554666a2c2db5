"""CLARS under `torch.compile`, where nothing may be read on the host, and in CUDA graphs with its backward pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from optim import CLARS, LayerStats, PerSampleNorms

MODES = ("exact", "subset", "micro_batch")
B = 20


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3),
        nn.GroupNorm(2, 8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 4, 3),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


def make(model: nn.Module, mode: str, lr: float | Tensor) -> tuple[CLARS, LayerStats]:
    optimizer = CLARS(model.parameters(), lr=lr, weight_decay=0.1, sample_norms=PerSampleNorms(model, mode))
    return optimizer, LayerStats(optimizer)


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(B, 2, 6, 6, generator=generator), torch.randint(0, 3, (B,), generator=generator)


@pytest.mark.parametrize("mode", MODES)
def test_compiled_step_follows_a_schedule_without_compiling_again(mode: str) -> None:
    torch._dynamo.reset()
    model, plain_model = net(), net()
    (optimizer, stats), (plain, plain_stats) = make(model, mode, torch.tensor(0.0)), make(plain_model, mode, 0.0)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(optimizer.step, backend=counter)
    for step in range(5):
        optimizer.param_groups[0]["lr"].fill_(1 / (step + 1))
        plain.param_groups[0]["lr"] = 1 / (step + 1)
        for one, some, move in ((model, optimizer, compiled), (plain_model, plain, plain.step)):
            some.zero_grad()
            inputs, labels = batch(step)
            F.cross_entropy(one(inputs), labels).backward()
            move()
    # once before there is any state, and once with it
    assert counter.frame_count == 2
    for a, b in zip(model.parameters(), plain_model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    table, expected = stats.flush(), plain_stats.flush()
    for field in ("steps", "lwn", "lgn", "trust_ratio"):
        np.testing.assert_allclose(getattr(table, field), getattr(expected, field), rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_off_the_cpu_neither_norms_nor_step_read_a_value(mode: str) -> None:
    # tensors on the meta device have no values: whatever asks for one fails
    model = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 6), nn.Unflatten(1, (2, 6)), net()).to("meta")
    optimizer, _ = make(model, mode, 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        tokens, labels = (torch.zeros(shape, dtype=torch.long, device="meta") for shape in ((B, 12), (B,)))
        F.cross_entropy(model(tokens), labels).backward()
        optimizer.step()
    found = optimizer.sample_norms.latest
    assert found.names == ("0.weight", "1.weight", "3.0.weight", "3.3.weight", "3.5.weight")
    assert found.means.is_meta


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnAGpu:
    @pytest.mark.parametrize("mode", MODES)
    def test_neither_norms_nor_step_wait_for_the_device(self, mode: str) -> None:
        model = net().cuda()
        optimizer, _ = make(model, mode, 0.1)
        inputs, labels = (tensor.cuda() for tensor in batch(0))

        def advance() -> None:
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), labels).backward()
            optimizer.step()

        advance()
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(3):
                advance()
        finally:
            torch.cuda.set_sync_debug_mode(before)

    @pytest.mark.parametrize("mode", ["exact", "micro_batch"])
    def test_a_graph_of_backward_and_step_follows_data_and_schedule(self, mode: str) -> None:
        model, plain_model = net().cuda(), net().cuda()
        optimizer, stats = make(model, mode, torch.tensor(0.1, device="cuda"))
        plain, plain_stats = make(plain_model, mode, 0.1)
        inputs, labels = (tensor.cuda() for tensor in batch(0))
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for one, some in ((model, optimizer), (plain_model, plain)):
                some.zero_grad()
                F.cross_entropy(one(inputs), labels).backward()
                some.step()
                some.zero_grad()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            F.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
        for step in range(1, 6):
            inputs.copy_(batch(step)[0])
            labels.copy_(batch(step)[1])
            optimizer.param_groups[0]["lr"].fill_(0.1 / step)
            graph.replay()
            plain.param_groups[0]["lr"] = 0.1 / step
            plain.zero_grad()
            F.cross_entropy(plain_model(inputs), labels).backward()
            plain.step()
        for a, b in zip(model.parameters(), plain_model.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
        assert stats.flush().steps.tolist() == plain_stats.flush().steps.tolist() == list(range(6))
