"""LARS: layer-wise adaptive rate scaling.

You, Gitman, Ginsburg, "Large Batch Training of Convolutional Networks", arXiv 1708.03888, algorithm 1;
direction and denominator as in the Barlow Twins code (weight decay is part of the direction, and of the norm
that divides).
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from optim import trust
from optim.base import FRACTION, NON_NEGATIVE, POSITIVE, LayerWiseOptimizer, evaluate


class LARS(LayerWiseOptimizer):
    r"""SGD with momentum whose every layer moves in proportion to the norm of its weights.

    For each parameter tensor w with gradient g, at each step:

        d  = g + weight_decay * w                       (d = g where ndim <= 1)
        q  = trust_coefficient * ||w|| / ||d||          (1 where either norm is 0, and where ndim <= 1)
        mu = momentum * mu + q * d                      (mu starts at 0)
        w  = w - lr * mu                                (Nesterov: w - lr * (q * d + momentum * mu))

    Args:
        params: tensors, named tensors or groups, as `torch.optim.SGD` takes them; dense and real.
        lr: learning rate, `0 <= lr`, or a tensor of shape () with it. Outside of the momentum buffer: a change acts at
            once.
        momentum: `0 <= momentum < 1`.
        weight_decay: L2 penalty on tensors with more than one dimension, `0 <= weight_decay`.
        trust_coefficient: the relative length of a layer's step at lr 1, `0 < trust_coefficient`.
        nesterov: look ahead along the momentum.
        maximize: climb instead of descending.

    Raises:
        ValueError: a hyperparameter breaks its rule.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
        >>> optimizer = LARS([weight], lr=1.0, trust_coefficient=0.1)
        >>> weight.sum().backward()
        >>> optimizer.step()
        >>> round(float((weight.detach() - torch.tensor([[3.0, 4.0]])).norm()), 6)  # 0.1 * ||w||
        0.5
    """

    rules: ClassVar = {
        "lr": NON_NEGATIVE,
        "momentum": FRACTION,
        "weight_decay": NON_NEGATIVE,
        "trust_coefficient": POSITIVE,
    }
    switches = ("nesterov", "maximize")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient; returns the closure's loss."""
        loss = evaluate(closure)
        for group, observe in self.observed_groups():
            ratio = trust.TrustRatio(group["trust_coefficient"])
            for bucket in trust.buckets(group["params"], self.state, ("momentum_buffer",)):
                trust.momentum_step(bucket, group, ratio, observe=observe)
        return loss
