import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from optim import hessian_ends, sam_sharpness
from optim.curvature import lanczos


class Vector(nn.Module):
    def __init__(self, values):
        super().__init__()
        self.w = nn.Parameter(torch.as_tensor(values))


def symmetric(eigenvalues, seed=0):
    generator = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(generator.normal(size=(len(eigenvalues), len(eigenvalues))))
    return rotation @ np.diag(eigenvalues) @ rotation.T


def quadratic(model, matrix):
    return model.w @ matrix @ model.w / 2


class Net(nn.Module):
    """Smooth, with batch norm and dropout; small enough for a dense Hessian."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop, self.last = (
            nn.Linear(3, 4),
            nn.BatchNorm1d(4),
            nn.Dropout(0.5),
            nn.Linear(4, 2),
        )

    def forward(self, x):
        return self.last(self.drop(torch.tanh(self.norm(self.first(x)))))


@pytest.fixture
def net():
    torch.manual_seed(0)
    model = Net().double()
    model(torch.randn(50, 3, dtype=torch.float64) * 2 + 1)  # running statistics unlike those of the batch
    return model


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 2, (9,), generator=generator)


def cross_entropy(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def dense_hessian(net, batch, training):
    """The same loss written out, its Hessian by torch's own dense routine."""
    sizes = [param.numel() for param in net.parameters()]

    def loss(flat):
        w1, b1, gain, shift, w2, b2 = (
            part.view_as(p) for part, p in zip(flat.split(sizes), net.parameters(), strict=True)
        )
        hidden = F.linear(batch[0], w1, b1)
        mean = hidden.mean(0) if training else net.norm.running_mean
        variance = hidden.var(0, unbiased=False) if training else net.norm.running_var
        hidden = gain * (hidden - mean) / (variance + net.norm.eps).sqrt() + shift
        return F.cross_entropy(F.linear(torch.tanh(hidden), w2, b2), batch[1])

    flat = torch.cat([param.detach().reshape(-1) for param in net.parameters()])
    return torch.autograd.functional.hessian(loss, flat).numpy()


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
@pytest.mark.parametrize("count", [1, 3])
def test_quadratic_with_a_known_spectrum(dtype, rel, count):
    eigenvalues = np.array([5.0, 4.0, 2.5, 1.0, *np.linspace(-0.5, 0.5, 40), -1.0, -3.0, -4.5])
    matrix = torch.tensor(symmetric(eigenvalues), dtype=dtype)
    ends = hessian_ends(Vector(np.ones(47)).to(dtype), quadratic, matrix, batchnorm="eval", count=count, tolerance=1e-5)
    assert ends.largest == pytest.approx(np.sort(eigenvalues)[::-1][:count], rel=rel)
    assert ends.smallest == pytest.approx(np.sort(eigenvalues)[:count], rel=rel)
    assert ends.converged
    assert ends.parameters == 47
    assert ends.products < 47
    assert max(*ends.largest_residuals, *ends.smallest_residuals) <= 1e-5 * 5


def test_finds_the_top_where_power_iteration_finds_the_bottom():
    eigenvalues = np.array([2.22, -2.55, *np.linspace(-1, 1, 30)])
    matrix = symmetric(eigenvalues)
    vector = np.random.default_rng(0).normal(size=32)
    for _ in range(2000):
        vector = matrix @ vector / np.linalg.norm(matrix @ vector)
    assert vector @ matrix @ vector == pytest.approx(-2.55, rel=1e-6)
    ends = hessian_ends(Vector(np.zeros(32)), quadratic, torch.tensor(matrix), batchnorm="eval")
    assert ends.largest[0] == pytest.approx(2.22, rel=1e-4)
    assert ends.smallest[0] == pytest.approx(-2.55, rel=1e-4)
    assert ends.products <= 20


@pytest.mark.parametrize("products", [4, 8, 12])
def test_an_eigenvalue_lies_within_each_residual(products):
    eigenvalues = np.random.default_rng(3).normal(size=60)
    matrix = torch.tensor(symmetric(eigenvalues))
    found = lanczos(
        lambda v: matrix @ v, torch.zeros(60, dtype=torch.float64), 2, tolerance=1e-9, max_products=products
    )
    assert not found.converged
    assert found.products == products
    values = [*found.largest, *found.smallest]
    residuals = [*found.largest_residuals, *found.smallest_residuals]
    for value, residual in zip(values, residuals, strict=True):
        assert np.abs(eigenvalues - value).min() <= residual * (1 + 1e-9)
        assert residual > 1e-6


def test_residual_is_that_of_its_vector():
    matrix = torch.tensor(symmetric(np.random.default_rng(3).normal(size=40)))
    seen = []

    def product(vector):
        seen.append(vector)
        return matrix @ vector

    found = lanczos(product, torch.zeros(40, dtype=torch.float64), 2, tolerance=1e-9, max_products=9)
    basis = torch.stack(seen, 1).numpy()
    np.testing.assert_allclose(basis.T @ basis, np.eye(9), atol=1e-13)
    values, vectors = np.linalg.eigh(basis.T @ matrix.numpy() @ basis)
    vectors = basis @ vectors
    residuals = np.linalg.norm(matrix.numpy() @ vectors - values * vectors, axis=0)
    np.testing.assert_allclose(found.largest, values[::-1][:2], rtol=1e-12)
    np.testing.assert_allclose(found.largest_residuals, residuals[::-1][:2], rtol=1e-10)
    np.testing.assert_allclose(found.smallest_residuals, residuals[:2], rtol=1e-10)


@pytest.mark.parametrize(
    "eigenvalues", [[2.0] * 6, [0.0] * 6, [3.0], [1.0, -1.0], [7.0, 7.0, 7.0, -1.0], [1e-12, 1.0, 1e6]], ids=str
)
def test_degenerate_spectra(eigenvalues):
    size = len(eigenvalues)
    ends = hessian_ends(Vector(np.ones(size)), quadratic, torch.tensor(symmetric(eigenvalues)), batchnorm="eval")
    slack = 1e-6 * max(map(abs, eigenvalues))
    assert ends.largest == pytest.approx([max(eigenvalues)], abs=slack)
    assert ends.smallest == pytest.approx([min(eigenvalues)], abs=slack)
    assert ends.converged


def test_copies_of_an_eigenvalue_are_found_when_the_space_is_exhausted():
    matrix = torch.tensor(symmetric([2.0] * 5))
    ends = hessian_ends(Vector(np.ones(5)), quadratic, matrix, batchnorm="eval", count=2)
    assert [*ends.largest, *ends.smallest] == pytest.approx([2.0] * 4)


def test_a_loss_without_curvature_has_none():
    model = nn.Linear(3, 1)
    ends = hessian_ends(model, lambda m, x: m(x).mean(), torch.ones(4, 3), batchnorm="eval")
    assert ends.largest[0] == ends.smallest[0] == 0.0


def test_linear_regression():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(30, 5)) * [1, 2, 3, 4, 5], generator.normal(size=(30, 1))
    model = nn.Linear(5, 1).double()
    expected = np.linalg.eigvalsh(2 / 30 * np.c_[x, np.ones(30)].T @ np.c_[x, np.ones(30)])
    data = torch.tensor(x), torch.tensor(y)
    ends = hessian_ends(model, lambda m, d: F.mse_loss(m(d[0]), d[1]), data, batchnorm="train", tolerance=1e-9)
    assert ends.largest[0] == pytest.approx(expected[-1], rel=1e-9)
    assert ends.smallest[0] == pytest.approx(expected[0], rel=1e-7)


def test_logistic_regression():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(40, 6)), generator.integers(0, 2, size=40)
    model = nn.Linear(6, 1, bias=False).double()
    p = 1 / (1 + np.exp(-x @ model.weight.detach().numpy()[0]))
    expected = np.linalg.eigvalsh(x.T @ np.diag(p * (1 - p)) @ x / 40)
    data = torch.tensor(x), torch.tensor(y).double()

    def loss(m, d):
        return F.binary_cross_entropy_with_logits(m(d[0])[:, 0], d[1])

    ends = hessian_ends(model, loss, data, batchnorm="train", tolerance=1e-9, count=2)
    assert ends.largest == pytest.approx(expected[::-1][:2], rel=1e-9)
    assert ends.smallest == pytest.approx(expected[:2], rel=1e-9)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("left_in", [True, False])
def test_batch_norm_mode_is_the_one_asked_for(net, batch, mode, left_in):
    net.train(left_in)
    expected = np.linalg.eigvalsh(dense_hessian(net, batch, mode == "train"))
    other = np.linalg.eigvalsh(dense_hessian(net, batch, mode != "train"))
    ends = hessian_ends(net, cross_entropy, batch, batchnorm=mode, tolerance=1e-7)
    assert ends.batchnorm == mode
    assert ends.largest[0] == pytest.approx(expected[-1], rel=1e-7)
    assert ends.smallest[0] == pytest.approx(expected[0], rel=1e-7)
    assert abs(expected[-1] - other[-1]) > 0.01 * expected[-1]


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("diagnostic", [hessian_ends, sam_sharpness], ids=lambda f: f.__name__)
def test_nothing_of_the_model_changes(net, batch, mode, diagnostic):
    calls = []
    net.norm.register_forward_hook(lambda *_: calls.append("forward"))
    net.last.register_full_backward_hook(lambda *_: calls.append("backward"))
    net.last.bias.requires_grad_(False)
    net.drop.eval()
    cross_entropy(net, batch).backward()
    calls.clear()
    state = copy.deepcopy(net.state_dict())
    grads = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    modes = [module.training for module in net.modules()]
    rng = torch.get_rng_state()

    def noisy(model, data):
        return cross_entropy(model, data) * (1 + 0.1 * torch.rand(()))

    first = diagnostic(net, noisy, batch, batchnorm=mode)
    assert repr(first) == repr(diagnostic(net, noisy, batch, batchnorm=mode))
    assert torch.equal(rng, torch.get_rng_state())
    assert calls == []
    assert modes == [module.training for module in net.modules()]
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    for param, grad in zip(net.parameters(), grads, strict=True):
        assert (param.grad is None) == (grad is None)
        assert grad is None or torch.equal(param.grad, grad)
    cross_entropy(net, batch).backward()
    assert calls == ["forward", "backward"]


def test_attention_is_differentiated_twice():
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True, activation=F.gelu)
    ends = hessian_ends(model, lambda m, x: (m(x) ** 2).mean(), torch.randn(2, 4, 8), batchnorm="train")
    assert ends.largest[0] > 0


def test_frozen_and_unused_parameters():
    model = nn.ModuleList([Vector([1.0, 2.0]), Vector([3.0]), Vector([4.0])]).double()
    model[1].requires_grad_(False)

    def loss(m, _):
        return 3 * (m[0].w ** 2).sum() + 10 * (m[1].w ** 2).sum()

    ends = hessian_ends(model, loss, None, batchnorm="eval")
    assert ends.parameters == 3
    assert ends.largest[0] == pytest.approx(6.0)
    assert ends.smallest[0] == pytest.approx(0.0, abs=1e-12)  # the one that is not used


def test_sam_sharpness_of_a_quadratic():
    matrix, start, rho = symmetric([4.0, 1.0, -2.0, 0.5]), np.array([1.0, -2.0, 0.5, 3.0]), 0.3
    g = matrix @ start
    norm = np.linalg.norm(g)
    found = sam_sharpness(Vector(start), quadratic, torch.tensor(matrix), batchnorm="eval", rho=rho)
    assert found.gradient_norm == pytest.approx(norm, rel=1e-12)
    assert found.loss == pytest.approx(start @ matrix @ start / 2, rel=1e-12)
    assert found.sharpness == pytest.approx(rho * norm + rho**2 / 2 * g @ matrix @ g / norm**2, rel=1e-10)
    assert (found.rho, found.batchnorm) == (rho, "eval")
    assert sam_sharpness(Vector(0 * start), quadratic, torch.tensor(matrix), batchnorm="eval").sharpness == 0.0


def test_sam_sharpness_follows_the_mode(net, batch):
    values = {mode: sam_sharpness(net, cross_entropy, batch, batchnorm=mode) for mode in ("train", "eval")}
    assert abs(values["train"].loss - values["eval"].loss) > 1e-3
    assert all(value.sharpness > 0 for value in values.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batchnorm": "both"}, "train or eval, but got 'both'"),
        ({"count": 0}, r"1 <= count <= 3 .*count=0"),
        ({"count": 4}, r"1 <= count <= 3 .*count=4"),
        ({"tolerance": 0.0}, r"0 < tolerance .*tolerance=0.0"),
        ({"max_products": 1}, r"2 <= max_products .*max_products=1"),
        ({"loss_function": lambda m, _: m.w}, r"shape \(\)"),
        ({"model": nn.ReLU()}, "requires_grad=True, but got none"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_illegal_arguments_are_refused(change, message):
    arguments = {"model": Vector(np.ones(3)), "loss_function": quadratic, "batch": torch.eye(3, dtype=torch.float64)}
    with pytest.raises(ValueError, match=message):
        hessian_ends(**{**arguments, "batchnorm": "eval", **change})


@pytest.mark.parametrize("rho", [0.0, -1.0, float("inf"), float("nan")])
def test_illegal_rho_is_refused(rho):
    with pytest.raises(ValueError, match="0 < rho < inf"):
        sam_sharpness(Vector(np.ones(2)), quadratic, torch.eye(2, dtype=torch.float64), batchnorm="eval", rho=rho)
