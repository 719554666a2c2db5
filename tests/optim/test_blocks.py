import numpy as np
import pytest
import torch

from optim import blocks


def test_blocks_cover_each_element_once_and_write_through(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 7)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    first, second = torch.zeros(5, 5), torch.arange(25.0).view(5, 5)
    sizes = []
    for a, b in blocks.blocks(first, second):
        a.add_(b)
        sizes.append(a.numel())
    assert sizes == [7, 7, 7, 4]
    assert torch.equal(first, second)
    assert [a.shape for a, _ in blocks.blocks(first.t(), second)] == [(5, 5)]


def test_float32_norm_of_a_large_layer_is_accurate():
    # at once, in one float32 sum, this norm is off by more than 1e-5
    values = torch.randn(2_500_000, generator=torch.Generator().manual_seed(0)) * 0.03
    scratch = blocks.Scratch(torch.float32)
    pairs = blocks.blocks(values.view(500, 5000), values.flip(0))
    found = np.sqrt(np.sum([blocks.block_squares(w, g, scratch, 0.0, False) for w, g in pairs], axis=0))
    assert found == pytest.approx([np.linalg.norm(values.double().numpy())] * 3, rel=2e-6)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3, -1.0, 1.0])
@pytest.mark.parametrize(
    ("dtype", "rows"), [(torch.float64, 1), (torch.float32, 1), (torch.bfloat16, 1), (torch.float64, 8)]
)
def test_squared_norms_of_a_block(dtype, rows, weight_decay, maximize):
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(40, generator=generator).to(dtype)
    g = w + 1e-4 * torch.randn(40, generator=generator).to(dtype)  # weight decay -1 (or 1, maximizing) cancels it
    if rows > 1:
        w, g = w.view(rows, -1), g.view(rows, -1)
    scratch = blocks.Scratch(torch.promote_types(dtype, torch.float32))
    found = blocks.block_squares(w, g, scratch, weight_decay, maximize)
    w, g = w.double().numpy(), g.double().numpy()
    d = weight_decay * w + (-g if maximize else g)
    expected = [(w**2).sum(), (g**2).sum(), (d**2).sum()]
    assert found == pytest.approx(expected, rel=1e-12 if dtype is torch.float64 else 1e-4)
