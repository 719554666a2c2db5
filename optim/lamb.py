"""LAMB: Adam whose every layer moves in proportion to the norm of its weights.

You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", arXiv 1904.00962,
algorithm 2, with the identity for the scaling function phi. There is no clipping of gradients.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from optim import fused, trust
from optim.base import FRACTION, NON_NEGATIVE, POSITIVE, LayerWiseOptimizer, checked_number, evaluate
from optim.blocks import Scratch, Shelf, block_direction, blocks, square
from optim.lists import descend, list_directions, norms, scale_list


class LAMB(LayerWiseOptimizer):
    r"""Adam's direction, stretched layer by layer to the norm of the weights.

    For each parameter tensor w with gradient g, at its t-th step (t = 1, 2, ...):

        m = beta1 * m + (1 - beta1) * g                 (m and v start at 0)
        v = beta2 * v + (1 - beta2) * g^2
        r = m_hat / (sqrt(v_hat) + eps)                 m_hat = m / (1 - beta1^t), v_hat = v / (1 - beta2^t)
        u = r + weight_decay * w                        (u = r where ndim <= 1)
        w = w - lr * (||w|| / ||u||) * u                (ratio 1 where either norm is 0, and where ndim <= 1)

    t is a tensor in the state of each parameter and counts the steps for which it had a gradient, as in Adam.

    Args:
        params: tensors, named tensors or groups, as `torch.optim.AdamW` takes them; dense and real.
        lr: learning rate, `0 <= lr`, or a tensor of shape () with it; the length of a layer's step relative to its
            weights.
        betas: decay of the two moments, `0 <= beta < 1`.
        eps: added to the denominator, `0 < eps`.
        weight_decay: on tensors with more than one dimension, `0 <= weight_decay`.
        bias_correction: divide the moments by `1 - beta^t`; without it m_hat = m and v_hat = v.
        maximize: climb instead of descending.

    Raises:
        ValueError: a hyperparameter breaks its rule.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
        >>> optimizer = LAMB([weight], lr=0.1)
        >>> weight.sum().backward()
        >>> optimizer.step()
        >>> round(float((weight.detach() - torch.tensor([[3.0, 4.0]])).norm()), 6)  # 0.1 * ||w||
        0.5
    """

    rules: ClassVar = {"lr": NON_NEGATIVE, "eps": POSITIVE, "weight_decay": NON_NEGATIVE}
    switches = ("bias_correction", "maximize")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        bias_correction: bool = True,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "bias_correction": bias_correction,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def checked(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """As in the base class; `betas` become a pair of floats."""
        try:
            beta1, beta2 = group["betas"]
        except (TypeError, ValueError):
            raise ValueError(f"betas must be a pair of numbers, but got (betas={group['betas']!r})") from None
        pair = checked_number("beta1", beta1, FRACTION), checked_number("beta2", beta2, FRACTION)
        return {**super().checked(group), "betas": pair}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient; returns the closure's loss."""
        loss = evaluate(closure)
        for group, observe in self.observed_groups():
            for bucket in trust.buckets(group["params"], self.state, ("exp_avg", "exp_avg_sq")):
                for param, state in zip(bucket.params, bucket.states, strict=True):
                    if "step" not in state:
                        state["step"] = torch.zeros((), dtype=torch.int64, device=param.device)
                torch._foreach_add_(bucket.buffers("step"), 1)
                move = _blocked_step if bucket.blocked else _foreach_step
                move(bucket, group, observe)
        return loss


def _denominators(bucket: trust.Bucket, group: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """a and b of `r = m / (a * sqrt(v) + b)`, made of bias correction and eps; each of shape (tensors,)."""
    dtype = trust.state_dtype(bucket.params[0])
    steps = torch.stack(bucket.buffers("step"))
    if not group["bias_correction"]:
        ones = torch.ones_like(steps, dtype=dtype)
        return ones, ones * group["eps"]
    time = steps.to(torch.float32 if steps.device.type == "mps" else torch.float64)
    correction1, correction2 = (1 - beta**time for beta in group["betas"])
    return (correction1 / correction2.sqrt()).to(dtype), (correction1 * group["eps"]).to(dtype)


def _fused_steps(bucket: trust.Bucket, group: Mapping[str, Any]) -> list[Tensor]:
    """The steps as the fused kernel takes them; it always corrects the bias, of which nothing is left in the end."""
    steps = torch.stack(bucket.buffers("step")).float()
    return list((steps if group["bias_correction"] else torch.full_like(steps, torch.inf)).unbind())


def _blocked_step(bucket: trust.Bucket, group: Mapping[str, Any], observe: trust.Observer | None) -> None:
    (beta1, beta2), weight_decay = group["betas"], group["weight_decay"]
    dtype = trust.state_dtype(bucket.params[0])
    scratch, shelf = Scratch(dtype), Shelf(dtype)

    def direction(w: Tensor, m: Tensor, v: Tensor, factor: float, floor: float, room: Tensor) -> Tensor:
        u = torch.sqrt(v, out=room).mul_(factor).add_(floor)
        torch.div(m, u, out=u)
        return u.add_(w, alpha=weight_decay) if weight_decay else u

    factors, floors = (values.tolist() for values in _denominators(bucket, group))
    seen = []
    tensors_of_layers = zip(
        bucket.params, bucket.grads, bucket.buffers("exp_avg"), bucket.buffers("exp_avg_sq"), strict=True
    )
    for layer, (tensors, step) in enumerate(zip(tensors_of_layers, _fused_steps(bucket, group), strict=True)):
        is_fused = fused.adam_fits(tensors)
        squares, walked = [], []
        shelf.clear()
        for w, g, m, v in blocks(*tensors):
            kept = shelf.take(w)
            u = scratch.like(w) if kept is None else kept
            if is_fused:
                _ = torch.mul(w, weight_decay, out=u) if weight_decay else u.zero_()
                fused.adam([u], [g], [m], [v], [step], group, lr=-1.0)
                of_grad = square(g, dtype) if observe is not None else 0.0
            else:
                g = block_direction(w, g, u, 0.0, group["maximize"])
                of_grad = square(g, dtype) if observe is not None else 0.0
                m.lerp_(g, 1 - beta1)
                v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
                u = direction(w, m, v, factors[layer], floors[layer], u)
            squares.append((square(w, dtype), of_grad, square(u, dtype)))
            walked.append((w, m, v, kept))
        weight_norm, grad_norm, direction_norm = (math.sqrt(sum(column)) for column in zip(*squares, strict=True))
        ratio = trust.TrustRatio().on_host(layer, weight_norm, direction_norm)
        seen.append((weight_norm, grad_norm, ratio))
        # last block first, since it is the one still cached; a direction that was not kept is made anew
        for w, m, v, kept in reversed(walked):
            u = direction(w, m, v, factors[layer], floors[layer], scratch.like(w)) if kept is None else kept
            w.add_(u, alpha=-float(group["lr"]) * ratio)
    if observe is not None:
        weight_norms, grad_norms, ratios = zip(*seen, strict=True)
        observe(bucket, weight_norms, grad_norms, ratios, 1.0)


def _foreach_step(bucket: trust.Bucket, group: Mapping[str, Any], observe: trust.Observer | None) -> None:
    beta1, beta2 = group["betas"]
    dtype = trust.state_dtype(bucket.params[0])
    first, second = bucket.buffers("exp_avg"), bucket.buffers("exp_avg_sq")
    if bucket.on_host and not bucket.adapted and fused.adam_fits((*bucket.params, *bucket.grads, *first, *second)):
        if observe is not None:
            trust.show_to(observe, bucket, None, None)
        steps = _fused_steps(bucket, group)
        fused.adam(bucket.params, bucket.grads, first, second, steps, group, float(group["lr"]))
        return
    root_factors, floors = _denominators(bucket, group)
    grads = list_directions(bucket.params, bucket.grads, dtype, 0.0, group["maximize"])
    torch._foreach_lerp_(first, grads, 1 - beta1)
    torch._foreach_mul_(second, beta2)
    torch._foreach_addcmul_(second, grads, grads, value=1 - beta2)
    directions: Any = torch._foreach_sqrt(second)
    torch._foreach_mul_(directions, root_factors.unbind())
    torch._foreach_add_(directions, floors.unbind())
    directions = list(torch._foreach_div(first, directions))
    if bucket.adapted and group["weight_decay"]:
        torch._foreach_add_(directions, bucket.params, alpha=group["weight_decay"])
    weight_norms, ratios = None, None
    if bucket.adapted:
        weight_norms = norms(bucket.params, dtype)
        ratios = trust.trust_ratio(weight_norms, norms(directions, dtype))
        directions = scale_list(directions, ratios)
    if observe is not None:
        trust.show_to(observe, bucket, weight_norms, ratios)
    descend(bucket.params, directions, group["lr"])
