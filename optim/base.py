"""What the optimizers share around their updates: checked hyperparameters and an exact state round trip."""

import math
import numbers
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from optim.trust import Observer, state_dtype


@dataclass(frozen=True)
class Rule:
    """A condition on one hyperparameter, with the text that an error quotes: `"0 <= {}"`."""

    text: str
    holds: Callable[[float], bool]


NON_NEGATIVE = Rule("0 <= {}", lambda value: value >= 0)
POSITIVE = Rule("0 < {}", lambda value: value > 0)
FRACTION = Rule("0 <= {} < 1", lambda value: 0 <= value < 1)


def checked_number(name: str, value: object, rule: Rule) -> float:
    """`value` as a Python float.

    Raises:
        ValueError: it is not a finite number, or the rule does not hold; the message says which.
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, but got ({name}={value!r})")
    number = float(value)
    if not rule.holds(number):
        raise ValueError(f"{rule.text.format(name)} must hold, but got ({name}={number!r})")
    return number


def checked_whole_number(name: str, value: object, least: int) -> int:
    """`value` as a Python int.

    Raises:
        ValueError: it is not a whole number, or below `least`.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{least} <= {name} must hold for a whole number, but got ({name}={value!r})")
    return int(value)


def plain_number(value: Any) -> Any:
    """A number of numpy's as one of Python's, which `torch.load(..., weights_only=True)` takes; all else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def checked_switch(name: str, value: object) -> bool:
    """`value` as a Python bool.

    Raises:
        ValueError: it is not one.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, but got ({name}={value!r})")
    return bool(value)


def checked_lr(value: object) -> float | Tensor:
    """A learning rate: a float, or as it is a tensor of shape (), which a schedule can fill in place.

    Raises:
        ValueError: it is neither, or it is negative or not finite.
    """
    if not isinstance(value, Tensor):
        return checked_number("lr", value, NON_NEGATIVE)
    if value.ndim != 0 or not value.is_floating_point():
        raise ValueError(f"lr must be a number or a tensor of shape (), but got (lr={value!r})")
    if value.device.type != "meta":
        checked_number("lr", value.item(), NON_NEGATIVE)
    return value


class Watcher(Protocol):
    """What may look on while an optimizer steps: `optim.LayerStats`."""

    def watch(self, groups: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Observer | None]]:
        """Each group with its observer."""

    def detach(self) -> None:
        """Stop watching."""


class LayerWiseOptimizer(Optimizer):
    """Base of the optimizers: a subclass names its hyperparameters in `rules` and `switches`, and has `step`.

    Hyperparameters live in `param_groups` as plain Python values, tensors and counters in `state`; nothing
    else is kept, so `state_dict` holds all there is. Numbers from numpy are taken as floats. `lr` may also be a
    tensor of shape (): then a compiled or captured step follows a schedule that fills it in place.
    """

    layer_stats: Watcher | None = None

    rules: ClassVar[Mapping[str, Rule]] = {}
    switches: ClassVar[tuple[str, ...]] = ("maximize",)

    def checked(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """The hyperparameters of a group, as plain values.

        Raises:
            ValueError: one of them breaks its rule.
        """
        plain: dict[str, Any] = {
            name: checked_lr(group[name]) if name == "lr" else checked_number(name, group[name], rule)
            for name, rule in self.rules.items()
        }
        plain.update({name: checked_switch(name, group[name]) for name in self.switches})
        if plain.get("nesterov") and plain["momentum"] == 0:
            raise ValueError("0 < momentum must hold with nesterov, but got (momentum=0.0, nesterov=True)")
        return plain

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters to optimize, with hyperparameters of their own where given.

        Raises:
            ValueError: a hyperparameter breaks its rule, or a parameter is not dense, real and
                floating-point.
        """
        plain = self.checked({**self.defaults, **param_group})
        super().add_param_group({**param_group, **plain})
        for param in self.param_groups[-1]["params"]:
            if not param.is_floating_point() or param.layout != torch.strided:
                self.param_groups.pop()
                raise ValueError(
                    f"parameters must be dense tensors of real floating-point numbers, but got one of shape "
                    f"{tuple(param.shape)} with {param.dtype}, {param.layout}"
                )

    def observed_groups(self) -> Iterator[tuple[dict[str, Any], Observer | None]]:
        """The parameter groups to step through, each with what observes its layers' norms, if anything does.

        Raises:
            RuntimeError: a gradient is sparse; no parameter has been changed then.
        """
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None and param.grad.layout != torch.strided:
                    raise RuntimeError(
                        f"gradients must be dense, but a parameter of shape {tuple(param.shape)} got "
                        f"{param.grad.layout}: build its layer with sparse=False"
                    )
        if self.layer_stats is not None:
            yield from self.layer_stats.watch(self.param_groups)
            return
        for group in self.param_groups:
            yield group, None

    def state_dict(self) -> dict[str, Any]:
        """As `torch.optim.Optimizer.state_dict`, loadable with `torch.load(..., weights_only=True)`."""
        packed = super().state_dict()
        for group in packed["param_groups"]:
            # a scheduler may have set a learning rate of numpy's since the group was checked
            group.update({name: plain_number(value) for name, value in group.items()})
        return packed

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """As `torch.optim.Optimizer.load_state_dict`, but state keeps its own dtype and shares no memory.

        torch casts floating-point state to the parameter's dtype, which would round the float32 buffers of
        16-bit parameters, and it aliases what needs no cast.
        """
        loaded: dict[str, Any] = {}

        # as hooks, so that the user's own hooks see and may change what they do with any other optimizer
        def remember(_: Optimizer, final: dict[str, Any]) -> None:
            loaded.update(final)

        def restore(_: Optimizer) -> None:
            ids = [i for group in loaded["param_groups"] for i in group["params"]]
            params = [param for group in self.param_groups for param in group["params"]]
            for index, param in zip(ids, params, strict=True):
                if index in loaded["state"]:
                    self.state[param] = {name: _own(value, param) for name, value in loaded["state"][index].items()}

        before = self.register_load_state_dict_pre_hook(remember)
        after = self.register_load_state_dict_post_hook(restore, prepend=True)
        try:
            super().load_state_dict(dict(state_dict))
        finally:
            before.remove()
            after.remove()


def _own(value: Tensor, param: Tensor) -> Tensor:
    """A copy of a state tensor for `param`: on its device, and in its state dtype if it is not a counter."""
    dtype = state_dtype(param) if value.is_floating_point() else value.dtype
    return value.detach().to(device=param.device, dtype=dtype, copy=True)


def evaluate(closure: Callable[[], float] | None) -> float | None:
    """The loss that a closure computes, with gradients on; None without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
