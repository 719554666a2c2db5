"""torch's one-pass kernels for SGD and Adam, behind `fused=True` of its optimizers, as parts of a layer-wise update.

They read and write each number once, where single operations go through the cache several times: on CPU about
half the time. Neither has a factor per layer: it comes in through `dampening` or through the gradient, or is left
for later, where the update goes into empty memory instead of the weights. They work on tensors of one dtype and
one layout; for the rest, and if torch should drop them, there are the single operations.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_DTYPES = {torch.float32, torch.float64}
_LEAST_FACTOR = {torch.float32: 1e-6, torch.float64: 1e-2}  # what is left of q is good to 1e-10 and 1e-14
_SGD, _ADAM = (getattr(torch, name, None) for name in ("_fused_sgd_", "_fused_adam_"))


def sgd_fits(tensors: Sequence[Tensor], group: Mapping[str, Any]) -> bool:
    """Whether `sgd` can do a step with momentum. (Without, it would leave the buffer alone.)"""
    return _SGD is not None and group["momentum"] > 0 and _alike(tensors)


def adam_fits(tensors: Sequence[Tensor]) -> bool:
    """Whether `adam` can make a direction of these."""
    return _ADAM is not None and _alike(tensors)


def takes_factor(q: float, group: Mapping[str, Any], dtype: torch.dtype) -> bool:
    """Whether `sgd` can apply the factor q itself.

    It does so by a dampening of `1 - q`, in which the digits of small q drown, and which its Nesterov step applies to
    the buffer only.
    """
    return q == 1.0 or (q > _LEAST_FACTOR[dtype] and not group["nesterov"])


def sgd(
    params: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor],
    group: Mapping[str, Any],
    weight_decay: float,
    q: float = 1.0,
) -> None:
    """`mu = momentum * mu + q * d` and `w = w - lr * mu`, with `d = g + weight_decay * w`.

    Where `takes_factor` does not hold, let q be 1, and part of the gradients and of the weight decay.
    """
    assert _SGD is not None
    _SGD(
        params,
        grads,
        buffers,
        lr=float(group["lr"]),
        momentum=group["momentum"],
        dampening=1 - q,
        weight_decay=weight_decay,
        nesterov=group["nesterov"],
        maximize=group["maximize"],
        is_first_step=False,
    )


def adam(
    params: list[Tensor],
    grads: list[Tensor],
    firsts: list[Tensor],
    seconds: list[Tensor],
    steps: list[Tensor],
    group: Mapping[str, Any],
    lr: float,
) -> None:
    """Moments and `w = w - lr * m_hat / (sqrt(v_hat) + eps)`; `steps` are in float32, and at least 1.

    With lr = -1, the direction is added to what `params` holds.
    """
    assert _ADAM is not None
    _ADAM(
        params,
        grads,
        firsts,
        seconds,
        [],
        steps,
        lr=lr,
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        weight_decay=0.0,
        eps=group["eps"],
        amsgrad=False,
        maximize=group["maximize"],
    )


def _alike(tensors: Sequence[Tensor]) -> bool:
    dtypes = {tensor.dtype for tensor in tensors}
    return len(dtypes) == 1 and dtypes <= _DTYPES and all(map(Tensor.is_contiguous, tensors))
