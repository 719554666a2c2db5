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
    found = np.sqrt(blocks.layer_squares(values.view(500, 5000), values.flip(0).view(500, 5000), scratch, 0.0, False))
    assert found == pytest.approx([np.linalg.norm(values.double().numpy())] * 3, rel=2e-6)


def test_a_shelf_hands_out_memory_until_it_is_full_and_again_when_cleared(monkeypatch):
    monkeypatch.setattr(blocks, "SHELF", 10)
    shelf = blocks.Shelf(torch.float64)
    first, second, third = (shelf.take(torch.zeros(4)) for _ in range(3))
    assert third is None
    assert shelf.take(torch.zeros(2, 1)) is None
    assert first.dtype is torch.float64
    first.fill_(1)
    second.fill_(2)
    assert first.tolist() == [1.0] * 4
    shelf.clear()
    assert shelf.take(torch.zeros(4)).data_ptr() == first.data_ptr()


@pytest.mark.parametrize("threads", [1, 2])  # numpy sums on one, torch on several
@pytest.mark.parametrize("size", [0, 1, 5, 6, 40, 41])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_sums_are_whole_however_they_are_cut(monkeypatch, threads, size, dtype, tolerance):
    for name, value in (("ROW", 3), ("ROWS", 2), ("BLOCK", 7)):
        monkeypatch.setattr(blocks, name, value)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    generator = torch.Generator().manual_seed(size)
    w, g = (torch.randn(size, generator=generator, dtype=dtype) for _ in range(2))
    found = blocks.layer_squares(w, g, blocks.Scratch(dtype), 0.1, False)
    expected = [(x.double().numpy() ** 2).sum() for x in (w, g, g.double() + 0.1 * w.double())]
    assert found == pytest.approx(expected, rel=tolerance, abs=0)
    assert blocks.square(w, dtype) == pytest.approx(expected[0], rel=tolerance, abs=0)


@pytest.mark.filterwarnings("error")
def test_infinite_sums_are_shown_without_a_warning():
    large = torch.full((20_000,), 1e30)
    for values in (large, large * torch.inf):
        assert blocks.square(values, torch.float32) == np.inf
        assert blocks.layer_squares(values, values, blocks.Scratch(torch.float32), 0.0, False)[:2] == (np.inf, np.inf)


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
    found = blocks.layer_squares(w, g, scratch, weight_decay, maximize)
    w, g = w.double().numpy(), g.double().numpy()
    d = weight_decay * w + (-g if maximize else g)
    expected = [(w**2).sum(), (g**2).sum(), (d**2).sum()]
    assert found == pytest.approx(expected, rel=1e-12 if dtype is torch.float64 else 1e-4)
