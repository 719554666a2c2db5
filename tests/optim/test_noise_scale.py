import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from optim import (
    NoiseScale,
    PerSampleNorms,
    gradient_noise_scale,
    hessian_ends,
    noise_scale_from_norms,
    sam_sharpness,
)
from optim.noise_scale import average

# per-sample gradients of a linear loss are the samples themselves: mean and covariance are known exactly
SAMPLES = np.array([[1.0, 0.0, 2.0], [3.0, -1.0, 0.0], [0.0, 4.0, 1.0], [2.0, 2.0, -3.0], [5.0, 1.0, 1.0]])
COUNT = len(SAMPLES)
MEAN = SAMPLES.mean(0)
VARIANCE = ((SAMPLES - MEAN) ** 2).sum() / COUNT  # of one draw from the set
SET_VARIANCE = ((SAMPLES - MEAN) ** 2).sum() / (COUNT - 1)


def linear_loss(model, x):
    return model(x).mean()


def model():
    return nn.Linear(3, 1, bias=False).double()


def measured(groups, batchnorm="eval"):
    batches = [torch.tensor(SAMPLES[list(group)]) for group in groups]
    return gradient_noise_scale(model(), linear_loss, batches, batch_size=len(groups[0]), batchnorm=batchnorm)


def test_unbiased_over_all_draws_with_replacement():
    one, two = itertools.product(range(COUNT), repeat=3), itertools.product(range(COUNT), repeat=4)
    draws = [measured([[a], [b], [c]]) for a, b, c in one]
    assert np.mean([draw.trace for draw in draws]) == pytest.approx(VARIANCE, rel=1e-12)
    assert np.mean([draw.gradient_square for draw in draws]) == pytest.approx((MEAN**2).sum(), rel=1e-12)
    draws = [measured([[a, b], [c, d]]) for a, b, c, d in two]
    assert average(draws).trace == pytest.approx(VARIANCE, rel=1e-12)
    assert average(draws).gradient_square == pytest.approx((MEAN**2).sum(), rel=1e-12)
    assert average(draws).noise_scale == pytest.approx(VARIANCE / (MEAN**2).sum(), rel=1e-12)
    assert average(draws).measurements == COUNT**4


def test_unbiased_over_all_draws_without_replacement():
    draws = [measured([[a, b], [c, d]]) for a, b, c, d in itertools.permutations(range(COUNT), 4)]
    assert average(draws).trace == pytest.approx(SET_VARIANCE, rel=1e-12)
    # of the distribution that the set is a sample of: for the set itself add trace / N
    expected = (MEAN**2).sum() - SET_VARIANCE / COUNT
    assert average(draws).gradient_square == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
def test_variance_of_a_batch_gradient_falls_as_one_over_its_size(batch_size):
    with_replacement = [SAMPLES[list(d)].mean(0) for d in itertools.product(range(COUNT), repeat=batch_size)]
    spread = np.mean([((g - MEAN) ** 2).sum() for g in with_replacement])
    assert NoiseScale(VARIANCE, 1.0, 1, 2, 1, None).gradient_variance(batch_size) == pytest.approx(spread, rel=1e-12)

    without = [SAMPLES[list(d)].mean(0) for d in itertools.combinations(range(COUNT), batch_size)]
    spread = np.mean([((g - MEAN) ** 2).sum() for g in without])
    found = NoiseScale(SET_VARIANCE, 1.0, 1, 2, 1, None)
    assert found.gradient_variance(batch_size, population=COUNT) == pytest.approx(spread, rel=1e-12)


def test_the_whole_set_drawn_without_replacement_has_no_variance():
    found = NoiseScale(SET_VARIANCE, 1.0, 1, 2, 1, None)
    assert found.gradient_variance(COUNT, population=COUNT) == 0.0
    for batch_size, population in ((0, None), (6, 5)):
        with pytest.raises(ValueError, match=rf"batch_size={batch_size}, population={population}"):
            found.gradient_variance(batch_size, population)


def test_linear_regression_with_known_noise():
    # y = x w* + noise, measured at w: g_i = 2 x_i (x_i (w - w*) - noise_i), x standard normal
    generator = torch.Generator().manual_seed(0)
    apart, sigma, size, draws = torch.tensor([0.6, -0.3, 0.2], dtype=torch.float64), 0.5, 16, 4000
    twin = model()
    with torch.no_grad():
        twin.weight.copy_(apart)
    batches = []
    for _ in range(draws):
        x = torch.randn(size, 3, generator=generator, dtype=torch.float64)
        batches.append((x, sigma * torch.randn(size, 1, generator=generator, dtype=torch.float64)))
    found = gradient_noise_scale(
        twin, lambda m, d: ((m(d[0]) - d[1]) ** 2).mean(), batches, batch_size=size, batchnorm="eval"
    )
    d, square = 3, float((apart**2).sum())
    # E|g_i|^2 = 4 [(d + 2) |a|^2 + d sigma^2], G = 2 a
    assert found.gradient_square == pytest.approx(4 * square, rel=0.02)
    assert found.trace == pytest.approx(4 * ((d + 2) * square + d * sigma**2) - 4 * square, rel=0.05)


def test_is_the_two_norms_formula():
    groups = [[0, 1], [2, 3], [4, 0]]
    gradients = [SAMPLES[group].mean(0) for group in groups]
    small = np.mean([(g**2).sum() for g in gradients])
    big = (np.mean(gradients, axis=0) ** 2).sum()
    expected = noise_scale_from_norms(small, big, 2, 6)
    found = measured(groups)
    assert (found.small_batch, found.big_batch) == (2, 6)
    assert found.trace == pytest.approx(expected.trace, rel=1e-12)
    assert found.gradient_square == pytest.approx(expected.gradient_square, rel=1e-12)


def test_expected_norms_give_the_moments_back():
    trace, square = 7.0, 0.3
    found = noise_scale_from_norms(square + trace / 32, square + trace / 1024, 32, 1024)
    assert found.trace == pytest.approx(trace)
    assert found.gradient_square == pytest.approx(square)
    assert found.noise_scale == pytest.approx(trace / square)


def test_tiny_noise_on_a_large_gradient_keeps_its_digits():
    batches = [torch.full((1, 3), 1e4, dtype=torch.float64) + 1e-4 * k for k in (-1, 0, 1)]
    found = gradient_noise_scale(model(), linear_loss, batches, batch_size=1, batchnorm="eval")
    assert found.trace == pytest.approx(3e-8, rel=1e-6)


def test_noise_that_prevails_gives_an_infinite_scale():
    assert noise_scale_from_norms(4.0, 1.0, 1, 4).noise_scale == math.inf
    assert noise_scale_from_norms(8.0, 1.0, 1, 4).gradient_square < 0


def test_nothing_of_the_model_changes_and_the_mode_is_recorded():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1)).double()
    net(torch.tensor(SAMPLES) * 3)
    net.train(True)
    net[3].bias.grad = torch.ones(1, dtype=torch.float64)
    state, rng = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    batches = [torch.tensor(SAMPLES[:3]), torch.tensor(SAMPLES[2:])]

    def loss(m, x):
        return (m(x) ** 2).mean() + torch.rand(()).double()

    found = {mode: gradient_noise_scale(net, loss, batches, batch_size=3, batchnorm=mode) for mode in ("train", "eval")}
    assert found["train"].batchnorm == "train"
    assert found["eval"].batchnorm == "eval"
    assert abs(found["train"].trace - found["eval"].trace) > 0.01 * found["eval"].trace
    assert torch.equal(rng, torch.get_rng_state())
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert all(module.training for module in net.modules())
    assert [param.grad is None for param in net.parameters()] == [True] * 5 + [False]


def test_diagnostics_between_backward_and_step_do_not_disturb_the_recording():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    data = torch.tensor(SAMPLES)

    def loss(m, x):
        return (m(x) ** 2).mean()

    norms = PerSampleNorms(net)
    loss(net, data).backward()
    expected = norms.mean_norms().means
    gradients = [param.grad.clone() for param in net.parameters()]
    gradient_noise_scale(net, loss, [data[:2], data[2:4]], batch_size=2, batchnorm="train")
    hessian_ends(net, loss, data, batchnorm="train")
    sam_sharpness(net, loss, data, batchnorm="train")
    assert torch.equal(norms.mean_norms().means, expected)
    assert all(torch.equal(param.grad, kept) for param, kept in zip(net.parameters(), gradients, strict=True))


def test_unlike_measurements_are_not_averaged():
    one = noise_scale_from_norms(2.0, 1.0, 1, 4)
    for others in (
        [],
        [one, noise_scale_from_norms(2.0, 1.0, 1, 8)],
        [one, noise_scale_from_norms(2, 1, 1, 4, "eval")],
    ):
        with pytest.raises(ValueError, match="alike"):
            average(others)


def test_illegal_arguments_are_refused():
    batch = torch.tensor(SAMPLES)
    for batches, size in (([batch], 5), ([batch, batch], 0)):
        with pytest.raises(ValueError, match=rf"batches={len(batches)}, batch_size={size}"):
            gradient_noise_scale(model(), linear_loss, batches, batch_size=size, batchnorm="eval")
    for small, big in ((0, 4), (4, 4), (5, 4)):
        with pytest.raises(ValueError, match=rf"small_batch={small}, big_batch={big}"):
            noise_scale_from_norms(2.0, 1.0, small, big)
