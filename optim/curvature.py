"""Sharpness of the loss: the ends of the Hessian's spectrum (Lanczos), and SAM sharpness.

Lanczos with full reorthogonalisation (Golub and Van Loan, Matrix Computations, section 10.3). Power iteration
converges to the eigenvalue of largest magnitude, which may be the most negative one. SAM sharpness: Foret et
al., "Sharpness-Aware Minimization", arXiv 2010.01412, with its one step of ascent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from optim.frozen import BatchNormMode, LossFunction, flat_gradient, frozen_copy, scalar_loss, trainable

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HessianEnds:
    """Eigenvalues at both ends of a Hessian's spectrum."""

    largest: Vector  # (count,) falling
    largest_residuals: Vector  # (count,) ||H v - value * v|| for ||v|| = 1
    smallest: Vector  # (count,) rising
    smallest_residuals: Vector  # (count,)
    products: int  # Hessian-vector products that were made
    converged: bool  # whether all residuals are within the tolerance
    batchnorm: BatchNormMode
    parameters: int
    seed: int


@dataclass(frozen=True)
class SamSharpness:
    """How much the loss rises along the gradient: `loss(w + rho * g / ||g||) - loss(w)`."""

    sharpness: float
    loss: float
    perturbed_loss: float
    gradient_norm: float
    rho: float
    batchnorm: BatchNormMode


@dataclass(frozen=True)
class LanczosResult:
    """Ritz values at both ends of a symmetric operator's spectrum, as in `HessianEnds`."""

    largest: Vector  # (count,)
    largest_residuals: Vector  # (count,)
    smallest: Vector  # (count,)
    smallest_residuals: Vector  # (count,)
    products: int
    converged: bool


def hessian_ends(
    model: nn.Module,
    loss_function: LossFunction,
    batch: Any,
    *,
    batchnorm: BatchNormMode,
    count: int = 1,
    tolerance: float = 1e-3,
    max_products: int = 100,
    seed: int = 0,
) -> HessianEnds:
    """The largest and the smallest eigenvalues of the loss's Hessian in the trainable parameters.

    The model, its buffers, its gradients and torch's random numbers stay as they are. One forward pass is made;
    each product is a backward pass through its gradient's graph. The basis takes `products * parameters`
    numbers of memory. Of equal eigenvalues, one may be found for all.

    Args:
        model: anything that can be deep-copied.
        loss_function: of the model and the batch, gives the mean loss, shape ().
        batch: whatever `loss_function` takes; fixed for all products.
        batchnorm: whether batch norms use the statistics of the batch ("train"; this is the loss in training) or
            the running ones ("eval"): it changes the values by much.
        count: eigenvalues at each end, at least 1.
        tolerance: stop when each residual is at most so much of the largest magnitude, above 0.
        max_products: stop after as many products, at least `2 * count` or what there are parameters.
        seed: of the start vector, and of whatever the loss function draws.

    Raises:
        ValueError: an argument breaks its rule, or there is nothing to train.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(3, 1, bias=False)
        >>> scales = torch.tensor([[3.0, 1.0, -5.0]])
        >>> ends = hessian_ends(model, lambda m, s: (s * m.weight**2).sum() / 2, scales, batchnorm="train")
        >>> ends.largest.round(4), ends.smallest.round(4)
        (array([3.]), array([-5.]))
    """
    with frozen_copy(model, batchnorm, seed) as twin:
        params = trainable(twin)
        gradient = flat_gradient(scalar_loss(loss_function, twin, batch), params, create_graph=True)

        def product(vector: Tensor) -> Tensor:
            if not gradient.requires_grad:  # a loss that is linear in every parameter
                return torch.zeros_like(vector)
            parts = torch.autograd.grad(gradient, params, vector, retain_graph=True, materialize_grads=True)
            return torch.cat([part.reshape(-1) for part in parts])

        found = lanczos(
            product,
            torch.zeros_like(gradient.detach()),
            count,
            tolerance=tolerance,
            max_products=max_products,
            seed=seed,
        )
    return HessianEnds(
        found.largest,
        found.largest_residuals,
        found.smallest,
        found.smallest_residuals,
        found.products,
        found.converged,
        batchnorm,
        gradient.numel(),
        seed,
    )


def lanczos(
    product: Callable[[Tensor], Tensor],
    like: Tensor,
    count: int = 1,
    *,
    tolerance: float = 1e-3,
    max_products: int = 100,
    seed: int = 0,
) -> LanczosResult:
    """Both ends of the spectrum of a symmetric operator.

    Args:
        product: the operator, from a vector to a vector of the same shape.
        like: a vector of that shape, dtype and device.
        count, tolerance, max_products, seed: as in `hessian_ends`.

    Raises:
        ValueError: an argument breaks its rule.
    """
    size = like.numel()
    if not 1 <= count <= size:
        raise ValueError(f"1 <= count <= {size} must hold for {size} parameters, but got (count={count})")
    if not tolerance > 0:
        raise ValueError(f"0 < tolerance must hold, but got (tolerance={tolerance})")
    if max_products < min(2 * count, size):
        raise ValueError(
            f"{min(2 * count, size)} <= max_products must hold, but got (max_products={max_products}, count={count})"
        )
    generator = torch.Generator().manual_seed(seed)
    basis = [_fresh(like, [], generator)]
    diagonal: list[float] = []
    beside: list[float] = []  # the last one belongs to a vector that is not in the tridiagonal matrix yet
    while True:
        image = product(basis[-1])
        diagonal.append(float(torch.dot(basis[-1], image)))
        rest = _orthogonal(image, basis)
        beside.append(float(rest.norm()))
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1))
        scale = np.abs(values).max()
        # an invariant subspace is found: exact, but there may be more outside of it
        complete = beside[-1] <= 10 * torch.finfo(like.dtype).eps * max(scale, float(image.norm()))
        if complete:
            beside[-1] = 0.0
        residuals = beside[-1] * np.abs(vectors[-1])
        top, bottom = np.arange(len(values))[::-1][:count], np.arange(count)
        enough = len(values) >= min(2 * count, size)
        converged = enough and bool((residuals[[*top, *bottom[: len(values)]]] <= tolerance * scale).all())
        if converged or len(values) in (max_products, size):
            break
        basis.append(_fresh(like, basis, generator) if complete else rest / beside[-1])
    return LanczosResult(
        values[top], residuals[top], values[bottom], residuals[bottom], len(values), converged or len(values) == size
    )


def _fresh(like: Tensor, basis: list[Tensor], generator: torch.Generator) -> Tensor:
    """A random unit vector, orthogonal to the basis; drawn on the host, so that devices agree."""
    drawn = torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)
    vector = _orthogonal(drawn, basis)
    return vector / vector.norm()


def _orthogonal(vector: Tensor, basis: list[Tensor]) -> Tensor:
    """What is left of a vector outside of the basis; twice, since once leaves rounding errors that grow."""
    for _ in range(2):
        for other in basis:
            vector = vector - torch.dot(other, vector) * other
    return vector


def sam_sharpness(
    model: nn.Module,
    loss_function: LossFunction,
    batch: Any,
    *,
    batchnorm: BatchNormMode,
    rho: float = 0.05,
    seed: int = 0,
) -> SamSharpness:
    """How much the loss on a batch rises at distance `rho` along the gradient; 0 where that is zero.

    Args:
        model, loss_function, batch, batchnorm: as in `hessian_ends`; nothing of the model changes.
        rho: the distance over all trainable parameters, above 0.
        seed: of whatever the loss function draws, the same for both losses.

    Raises:
        ValueError: an argument breaks its rule, or there is nothing to train.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.constant_(model.weight, 2.0)
        >>> found = sam_sharpness(model, lambda m, _: (m.weight**2).sum(), None, batchnorm="eval", rho=1.0)
        >>> found.sharpness, found.loss, found.gradient_norm  # (2 + 1)^2 - 2^2
        (5.0, 4.0, 4.0)
    """
    if not 0 < rho < float("inf"):
        raise ValueError(f"0 < rho < inf must hold, but got (rho={rho})")
    with frozen_copy(model, batchnorm, seed) as twin:
        params = trainable(twin)
        loss = scalar_loss(loss_function, twin, batch)
        gradient = flat_gradient(loss, params)
        norm = gradient.norm()
        step = torch.where(norm > 0, rho / norm, 0.0) * gradient
        with torch.no_grad():
            for param, part in zip(params, torch.split(step, [param.numel() for param in params]), strict=True):
                param.add_(part.view_as(param))
            torch.manual_seed(seed)
            perturbed = scalar_loss(loss_function, twin, batch)
    before, after = float(loss.detach()), float(perturbed)
    return SamSharpness(after - before, before, after, float(norm), rho, batchnorm)
