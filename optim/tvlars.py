"""TVLARS: LARS whose warm-up is replaced by a sigmoid-like decay of the step.

Do et al., "Revisiting LARS for Large Batch Training Generalization of Neural Networks", arXiv 2309.14053.
The published code leaves out the delay and the floor; here they are as in the paper, with `gamma_min` a
fraction of the target learning rate.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from optim import trust
from optim.base import FRACTION, NON_NEGATIVE, POSITIVE, LayerWiseOptimizer, evaluate
from optim.schedules import sigmoid_decay


class TVLARS(LayerWiseOptimizer):
    r"""LARS with `phi_t * q` in place of q, for every tensor, at a constant learning rate.

    With t = 0, 1, 2, ... the steps that this optimizer has made, and w, g as in `optim.LARS`:

        phi_t = 1 / (alpha + exp(lambda_ * (t - delay_steps))) + gamma_min
        d  = g + weight_decay * w                       (d = g where ndim <= 1)
        q  = trust_coefficient * ||w|| / ||d||          (1 where either norm is 0, and where ndim <= 1)
        mu = momentum * mu + phi_t * q * d              (mu starts at 0)
        w  = w - lr * mu                                (Nesterov: w - lr * (phi_t * q * d + momentum * mu))

    t is a tensor in the state of each parameter, the same one for all of a device. It counts every step, also those
    without a gradient, and parameters added later join the count: phi depends on the time in training, not on the
    parameter.

    Args:
        params: tensors, named tensors or groups, as `torch.optim.SGD` takes them; dense and real.
        lr: target learning rate, `0 <= lr`, or a tensor of shape () with it. Outside of the momentum buffer: a change
            acts at once.
        lambda_: steepness of the decay per step, `0 <= lambda_`.
        delay_steps: steps until phi has fallen to `1 / (alpha + 1) + gamma_min`, `0 <= delay_steps`.
        momentum: `0 <= momentum < 1`.
        weight_decay: L2 penalty on tensors with more than one dimension, `0 <= weight_decay`.
        trust_coefficient: the relative length of a layer's step at lr 1 and phi 1, `0 < trust_coefficient`.
        nesterov: look ahead along the momentum.
        alpha: phi never exceeds `1 / alpha + gamma_min`, `0 < alpha`.
        gamma_min: the value to which phi falls in the end, `0 <= gamma_min`.
        maximize: climb instead of descending.

    Raises:
        ValueError: a hyperparameter breaks its rule.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
        >>> phi = {"lambda_": 0.1, "delay_steps": 0, "gamma_min": 0.0}
        >>> optimizer = TVLARS([weight], lr=1.0, trust_coefficient=0.1, **phi)
        >>> weight.sum().backward()
        >>> optimizer.step()
        >>> round(float((weight.detach() - torch.tensor([[3.0, 4.0]])).norm()), 6)  # phi_0 * 0.1 * ||w||, phi_0 = 1/2
        0.25
    """

    rules: ClassVar = {
        "lr": NON_NEGATIVE,
        "lambda_": NON_NEGATIVE,
        "delay_steps": NON_NEGATIVE,
        "momentum": FRACTION,
        "weight_decay": NON_NEGATIVE,
        "trust_coefficient": POSITIVE,
        "alpha": POSITIVE,
        "gamma_min": NON_NEGATIVE,
    }
    switches = ("nesterov", "maximize")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor,
        *,
        lambda_: float,
        delay_steps: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        nesterov: bool = False,
        alpha: float = 1.0,
        gamma_min: float = 1e-3,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "lambda_": lambda_,
            "delay_steps": delay_steps,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "nesterov": nesterov,
            "alpha": alpha,
            "gamma_min": gamma_min,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient; returns the closure's loss."""
        loss = evaluate(closure)
        counters = self._counters()
        for group, observe in self.observed_groups():
            ratio = trust.TrustRatio(group["trust_coefficient"])
            phis: dict[torch.device, Tensor] = {}
            for bucket in trust.buckets(group["params"], self.state, ("momentum_buffer",)):
                device = bucket.params[0].device
                if device not in phis:
                    phis[device] = _phi(counters[device], group)
                trust.momentum_step(bucket, group, ratio, common_scale=phis[device], observe=observe)
        for counter in counters.values():
            counter.add_(1)
        return loss

    @torch.no_grad()
    def set_time(self, step: int) -> None:
        """Let the next step be the one of time t = `step`, where some were left out, as a gradient scaler does."""
        for counter in self._counters().values():
            counter.fill_(step)

    def _counters(self) -> dict[torch.device, Tensor]:
        """The step counter of each device, int64 of shape (), which its parameters share; a new one joins the others.

        After loading each parameter has its own, until here.
        """
        counters: dict[torch.device, Tensor] = {}
        late: list[Tensor] = []
        for group in self.param_groups:
            for param in group["params"]:
                state = self.state[param]
                if "step" not in state:
                    late.append(param)
                    continue
                state["step"] = counters.setdefault(param.device, state["step"])
        known = next(iter(counters.values()), None)
        for param in late:
            if param.device not in counters:
                counters[param.device] = (
                    torch.zeros((), dtype=torch.int64, device=param.device)
                    if known is None
                    else known.to(param.device, copy=True)
                )
            self.state[param]["step"] = counters[param.device]
        return counters


def _phi(step: Tensor, group: dict[str, Any]) -> Tensor:
    """`schedules.sigmoid_decay` on the device: an exponential that overflows to inf gives 0, its limit."""
    if step.device.type == "cpu" and not torch.compiler.is_compiling():
        knobs = (group[name] for name in ("lambda_", "delay_steps", "alpha", "gamma_min"))
        return torch.tensor(sigmoid_decay(int(step), *knobs), dtype=torch.float64)
    # in double precision, which a float32 time times a small lambda_ needs; Apple's devices have none
    time = step.to(torch.float32 if step.device.type == "mps" else torch.float64)
    decay = torch.exp(group["lambda_"] * (time - group["delay_steps"]))
    phi: Tensor = 1 / (group["alpha"] + decay) + group["gamma_min"]
    return phi
