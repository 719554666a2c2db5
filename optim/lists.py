"""Operations over whole lists of tensors: norms, directions, scales, and the final step."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor


def norms(tensors: list[Tensor], dtype: torch.dtype) -> Tensor:
    """The L2 norm of each tensor, computed in `dtype`: shape (tensors,)."""
    return torch.stack(list(torch._foreach_norm(tensors, 2, dtype=dtype)))


def host_norms(tensors: list[Tensor], dtype: torch.dtype) -> Tensor:
    """`norms` for many small tensors on CPU: one sum over all of them, cut at their ends."""
    sizes = list(map(Tensor.numel, tensors))
    if not all(sizes):
        return norms(tensors, dtype)
    if any(tensor.ndim != 1 for tensor in tensors):
        tensors = [tensor.reshape(-1) for tensor in tensors]
    values = torch.cat(tensors).to(dtype).numpy()
    starts = list(accumulate(sizes[:-1], initial=0))
    with np.errstate(all="ignore"):
        return torch.from_numpy(np.sqrt(np.add.reduceat(np.square(values, out=values), starts)))


def list_directions(
    params: list[Tensor], grads: list[Tensor], dtype: torch.dtype, weight_decay: float, maximize: bool
) -> list[Tensor]:
    """`block_direction` for whole lists of tensors; the gradients themselves where nothing changes them."""
    directions: Any = [grad.to(dtype) for grad in grads]
    if maximize:
        directions = torch._foreach_neg(directions)
    if weight_decay:
        directions = torch._foreach_add(directions, params, alpha=weight_decay)
    return list(directions)


def scale_list(tensors: list[Tensor], scale: Tensor) -> list[Tensor]:
    """Each tensor times its entry of `scale` (shape (tensors,)), or all times the one of shape ()."""
    if scale.ndim == 0:
        return list(torch._foreach_mul(tensors, scale))
    return list(torch._foreach_mul(tensors, scale.unbind()))


def descend(params: list[Tensor], steps: Sequence[Tensor], lr: float | Tensor) -> None:
    """`w = w - lr * step` for whole lists, in place; a learning rate that is a tensor is not read on the host."""
    if isinstance(lr, Tensor):
        torch._foreach_sub_(params, torch._foreach_mul(list(steps), lr.to(steps[0].device, steps[0].dtype)))
    else:
        torch._foreach_add_(params, list(steps), alpha=-lr)
