"""Gradient noise scale: how large a batch must be for its gradient to be more signal than noise.

McCandlish et al., "An Empirical Model of Large-Batch Training", arXiv 1812.06162, equation 2.9 and appendix A.1.
With G the true gradient and Sigma the covariance of one sample's gradient, the noise scale is
`tr(Sigma) / |G|^2`. A batch gradient of B samples has `E|g_B|^2 = |G|^2 + tr(Sigma) / B`, so two batch sizes
give both moments, each without bias. Their ratio has one: average the moments over measurements, then divide.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from optim.frozen import BatchNormMode, LossFunction, flat_gradient, frozen_copy, scalar_loss, trainable


@dataclass(frozen=True)
class NoiseScale:
    """The two moments of the gradient, and their ratio."""

    trace: float  # tr(Sigma): variance of one sample's gradient, summed over the parameters; unbiased
    gradient_square: float  # |G|^2; unbiased, so it may come out negative where noise prevails
    small_batch: int  # samples
    big_batch: int  # samples
    measurements: int  # how many were averaged
    batchnorm: BatchNormMode | None  # None: not from a model

    @property
    def noise_scale(self) -> float:
        """tr(Sigma) / |G|^2, in samples; inf where |G|^2 is not above 0."""
        return self.trace / self.gradient_square if self.gradient_square > 0 else math.inf

    def gradient_variance(self, batch_size: int, population: int | None = None) -> float:
        """`E|g_B - G|^2` of a batch gradient: `trace / B`, summed over the parameters.

        Args:
            batch_size: B, at least 1.
            population: N, where batches are drawn without replacement out of a set of N samples and G is the
                gradient of that set: `trace * (1/B - 1/N)`. `1 <= B <= N`.

        Raises:
            ValueError: an argument breaks its rule.
        """
        if batch_size < 1 or (population is not None and batch_size > population):
            raise ValueError(
                f"1 <= batch_size <= population must hold, but got (batch_size={batch_size}, population={population})"
            )
        return self.trace * (1 / batch_size - (1 / population if population is not None else 0.0))


def noise_scale_from_norms(
    small_square: float, big_square: float, small_batch: int, big_batch: int, batchnorm: BatchNormMode | None = None
) -> NoiseScale:
    """From the mean squared gradient norms at two batch sizes, which data-parallel training has at hand.

        |G|^2 = (B_big * big_square - B_small * small_square) / (B_big - B_small)
        tr(Sigma) = (small_square - big_square) / (1/B_small - 1/B_big)

    Args:
        small_square: mean of `|g|^2` over batches of `small_batch` samples.
        big_square: the same over batches of `big_batch` samples.
        small_batch, big_batch: `1 <= small_batch < big_batch`.
        batchnorm: how they were measured.

    Raises:
        ValueError: the batch sizes break their rule.

    Example:
        >>> noise_scale_from_norms(small_square=5.0, big_square=2.0, small_batch=1, big_batch=4)
        NoiseScale(trace=4.0, gradient_square=1.0, small_batch=1, big_batch=4, measurements=1, batchnorm=None)
    """
    if not 1 <= small_batch < big_batch:
        raise ValueError(
            f"1 <= small_batch < big_batch must hold, but got (small_batch={small_batch}, big_batch={big_batch})"
        )
    trace = (small_square - big_square) / (1 / small_batch - 1 / big_batch)
    gradient_square = (big_batch * big_square - small_batch * small_square) / (big_batch - small_batch)
    return NoiseScale(trace, gradient_square, small_batch, big_batch, 1, batchnorm)


def gradient_noise_scale(
    model: nn.Module,
    loss_function: LossFunction,
    batches: Sequence[Any],
    *,
    batch_size: int,
    batchnorm: BatchNormMode,
    seed: int = 0,
) -> NoiseScale:
    """The noise scale from the gradients of several equal batches and from that of all of them together.

    The model, its buffers, its gradients and torch's random numbers stay as they are. Memory: two gradients.

    Args:
        model: anything that can be deep-copied.
        loss_function: of the model and a batch, gives the mean loss, shape ().
        batches: two or more, of `batch_size` samples each, drawn independently; with few samples in the set, drawn
            without replacement, `trace` is the variance with N - 1 in its denominator.
        batch_size: samples in each of the batches, at least 1.
        batchnorm: as in `hessian_ends`. With "train" the samples of a batch are coupled, and a batch's gradient
            is no mean of independent terms.
        seed: of whatever the loss function draws.

    Raises:
        ValueError: an argument breaks its rule, or there is nothing to train.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> found = gradient_noise_scale(
        ...     model, lambda m, x: (m.weight * x).mean(), [0.0, 2.0, 4.0, 6.0], batch_size=1, batchnorm="eval"
        ... )
        >>> round(found.trace, 4), round(found.gradient_square, 4)  # gradients 0, 2, 4, 6
        (6.6667, 7.3333)
    """
    if len(batches) < 2 or batch_size < 1:
        raise ValueError(
            "2 <= number of batches and 1 <= batch_size must hold, but got "
            f"(batches={len(batches)}, batch_size={batch_size})"
        )
    with frozen_copy(model, batchnorm, seed) as twin:
        params = trainable(twin)
        mean = spread = None
        for count, batch in enumerate(batches, start=1):
            gradient = flat_gradient(scalar_loss(loss_function, twin, batch), params)
            if mean is None or spread is None:
                mean, spread = gradient.clone(), torch.zeros((), dtype=torch.float64, device=gradient.device)
                continue
            # Welford's update: squared norms of all gradients would cancel where noise is small
            apart = gradient - mean
            mean += apart / count
            spread += torch.dot(apart, gradient - mean)
    assert mean is not None
    assert spread is not None
    between = float(spread) / (len(batches) - 1)  # variance of one batch's gradient
    big_batch = batch_size * len(batches)
    gradient_square = float(mean.double().square().sum()) - between / len(batches)
    return NoiseScale(between * batch_size, gradient_square, batch_size, big_batch, 1, batchnorm)


def average(measurements: Sequence[NoiseScale]) -> NoiseScale:
    """One noise scale out of several: the moments are averaged, not the ratios.

    Raises:
        ValueError: there are none, or they differ in batch sizes or in the mode of batch norms.
    """
    kinds = {(one.small_batch, one.big_batch, one.batchnorm) for one in measurements}
    if len(kinds) != 1:
        raise ValueError(f"measurements must be alike in batch sizes and batchnorm, but got {sorted(map(str, kinds))}")
    ((small, big, batchnorm),) = kinds
    weight = sum(one.measurements for one in measurements)
    trace, square = (
        sum(getattr(one, name) * one.measurements for one in measurements) / weight
        for name in ("trace", "gradient_square")
    )
    return NoiseScale(trace, square, small, big, weight, batchnorm)
