"""CLARS: LARS that divides by the mean of per-sample gradient norms, and needs no warm-up for it, so it is claimed.

Huo, Gu, Huang, "Large Batch Optimization for Deep Learning Using New Complete Layer-Wise Adaptive Rate Scaling",
arXiv 2002.01576, AAAI 2021, algorithm 1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from optim import trust
from optim.base import FRACTION, NON_NEGATIVE, POSITIVE, LayerWiseOptimizer, evaluate


class Means(Protocol):
    """What `mean_norms` returns: `optim.sample_norms.MeanNorms`, as far as it is read here."""

    @property
    def means(self) -> Tensor:
        """(weights,), in the order in which they were asked for."""


class SampleNorms(Protocol):
    """Where the mean norms of per-sample gradients come from: `optim.PerSampleNorms`, or one's own."""

    def mean_norms(self, weights: Sequence[Tensor]) -> Means:
        """The means over the samples of a step; raises RuntimeError where there are none."""

    def clear(self, weights: Sequence[Tensor]) -> None:
        """Begin a new step."""

    def __contains__(self, weight: object) -> bool: ...

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on as the run that gave the state."""


class CLARS(LayerWiseOptimizer):
    r"""LARS whose every layer's step is divided by the mean norm of its per-sample gradients.

    For each parameter tensor w with gradient g, at each step, with g_i the gradient of sample i alone:

        d  = g + weight_decay * w                       (d = g where ndim <= 1)
        q  = trust_coefficient * ||w|| / ((1/B) * sum_i ||g_i|| + weight_decay * ||w||)
                                                        (1 where ||w|| or the divisor is 0, and where ndim <= 1)
        mu = momentum * mu + q * d                      (mu starts at 0)
        w  = w - lr * mu                                (Nesterov: w - lr * (q * d + momentum * mu))

    So the step shrinks where the samples disagree; LARS divides by the norm of their mean, and makes it as long as
    ever. `sample_norms.latest` tells the mean norms of the last step, by layer.

    Args:
        params: tensors, named tensors or groups, as `torch.optim.SGD` takes them; dense and real.
        lr: learning rate, `0 <= lr`, or a tensor of shape () with it. Outside of the momentum buffer: a change acts at
            once.
        momentum: `0 <= momentum < 1`.
        weight_decay: L2 penalty on tensors with more than one dimension, `0 <= weight_decay`.
        trust_coefficient: the relative length of a layer's step at lr 1, were all samples alike,
            `0 < trust_coefficient`.
        nesterov: look ahead along the momentum.
        sample_norms: records the norms during `backward`: `PerSampleNorms(model)`, for the model with these
            parameters. It is told of `zero_grad`, its state is part of `state_dict`.
        maximize: climb instead of descending.

    Raises:
        ValueError: a hyperparameter breaks its rule, or `sample_norms` does not know a parameter.

    Example:
        >>> import torch
        >>> from optim import PerSampleNorms
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = torch.nn.init.constant_(model.weight, 1.0)
        >>> optimizer = CLARS(model.parameters(), lr=1.0, trust_coefficient=0.1, sample_norms=PerSampleNorms(model))
        >>> model(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).mean().backward()
        >>> optimizer.step()  # ||w|| is the square root of 2, both samples' gradients have norm 1, g is [0.5, 0.5]
        >>> round(float((model.weight.detach() - 1).norm()), 6)  # 0.1 * ||w|| * ||g|| / 1
        0.1
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
        sample_norms: SampleNorms,
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
        self.sample_norms = sample_norms
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient; returns the closure's loss.

        Raises:
            RuntimeError: an adapted parameter has a gradient, but no per-sample norms since the last step. Nothing
                is changed then.
        """
        loss = evaluate(closure)
        watched = self._watched(needed=True)
        found = self.sample_norms.mean_norms(watched).means
        host = found.device.type == "cpu" and not torch.compiler.is_compiling()
        means = dict(zip(watched, found.tolist() if host else found.unbind(), strict=True))
        for group, observe in self.observed_groups():
            ratio = trust.TrustRatio(group["trust_coefficient"])
            for bucket in trust.buckets(group["params"], self.state, ("momentum_buffer",)):
                known = [means[param] for param in bucket.params] if bucket.adapted else []
                scale = _MeanRatio(ratio, group["weight_decay"], known)
                trust.momentum_step(bucket, group, scale, observe=observe)
        self.sample_norms.clear(watched)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As `torch.optim.Optimizer.zero_grad`; per-sample norms of the dropped gradients go with them."""
        super().zero_grad(set_to_none)
        self.sample_norms.clear(self._watched())

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters to optimize, with hyperparameters of their own where given.

        Raises:
            ValueError: as for the other groups.
        """
        super().add_param_group(param_group)
        unknown = [
            tuple(param.shape)
            for param in self.param_groups[-1]["params"]
            if trust.is_adapted(param) and param.requires_grad and param not in self.sample_norms
        ]
        if unknown:
            self.param_groups.pop()
            raise ValueError(
                "sample_norms must be made for the model with these parameters, all of them trainable by then, but it "
                f"does not know those of shape {unknown}"
            )

    def state_dict(self) -> dict[str, Any]:
        """As `torch.optim.Optimizer.state_dict`, with the state of `sample_norms` under that name."""
        return {**super().state_dict(), "sample_norms": self.sample_norms.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """As `torch.optim.Optimizer.load_state_dict`, and that of `sample_norms`.

        Raises:
            ValueError: the state is not one of CLARS, or of another mode of norms.
        """
        if "sample_norms" not in state_dict:
            raise ValueError(f"state_dict must hold sample_norms, but got only {', '.join(sorted(state_dict))}")
        self.sample_norms.load_state_dict(state_dict["sample_norms"])
        super().load_state_dict(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "sample_norms": self.sample_norms}

    def _watched(self, needed: bool = False) -> list[Tensor]:
        """The parameters that are adapted, with a gradient or not: the same on every worker.

        Raises:
            RuntimeError: one has a gradient, which is `needed`, but is not known to `sample_norms`.
        """
        adapted = [param for group in self.param_groups for param in group["params"] if trust.is_adapted(param)]
        unknown = [tuple(p.shape) for p in adapted if p.grad is not None and p not in self.sample_norms]
        if needed and unknown:
            raise RuntimeError(
                f"sample_norms does not know the parameters of shape {unknown}, which have a gradient: make it anew, "
                "with all parameters trainable that will be"
            )
        return [param for param in adapted if param in self.sample_norms]


@dataclass(frozen=True)
class _MeanRatio:
    """q of each layer, from the norms of its weights and the mean over the norms of its samples' gradients."""

    ratio: trust.TrustRatio
    weight_decay: float
    means: Sequence[Tensor] | Sequence[float]  # (layers,)

    def __call__(self, weight_norms: Tensor, _: Tensor) -> Tensor:
        means = torch.stack(
            [torch.as_tensor(mean, dtype=weight_norms.dtype, device=weight_norms.device) for mean in self.means]
        )
        return self.ratio(weight_norms, means + self.weight_decay * weight_norms)

    def on_host(self, layer: int, weight_norm: float, _: float) -> float:
        return self.ratio.on_host(layer, weight_norm, float(self.means[layer]) + self.weight_decay * weight_norm)
