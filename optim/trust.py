"""The core that the layer-wise optimizers share: which tensors are adapted, their norms, and the update.

Layer-wise means: each parameter tensor ("layer") with more than one dimension gets its own factor on its
step, made of the L2 norms of the tensor and of its update direction. Tensors with `ndim <= 1` (biases, norm
scales) get neither a factor nor weight decay.

There are two ways through an update, with the same result up to rounding:

- *blocked*, on CPU: layer by layer, norms and then update, so that weights and gradients are read from memory
  once, if the layer fits into the cache; and block by block within a layer (`optim.blocks`).
- *foreach*, everywhere else and under `torch.compile`: few launches over whole lists of tensors.

Only the first reads values on the host: a step on a GPU never waits for the device. Norms are in the dtype of
the state: float32 squares vanish below about 1e-22, so a float32 layer whose elements are all smaller counts
as zero.
"""

import math
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from optim import fused
from optim.blocks import Scratch, block_direction, blocks, layer_squares
from optim.lists import descend, host_norms, list_directions, norms, scale_list

LayerValues = Tensor | Sequence[float] | float  # of shape (layers,), or () for one value that holds for all

Observer = Callable[["Bucket", LayerValues, LayerValues, LayerValues, LayerValues], None]
"""Is told of a bucket, as before its update: norms of weights and gradients, factors of the layers, common factor."""


@dataclass(frozen=True)
class Bucket:
    """Parameters of one group that are updated together: same device, same dtype, all adapted or none."""

    params: list[Tensor]
    grads: list[Tensor]
    states: list[dict[str, Tensor]]
    adapted: bool
    positions: list[int]  # where each of the parameters stands in its group

    @property
    def on_host(self) -> bool:
        """Whether values may be read in the midst of a step, which makes nobody wait on CPU."""
        return self.params[0].device.type == "cpu" and not torch.compiler.is_compiling()

    @property
    def blocked(self) -> bool:
        """Whether the cache-blocked way is the better one. Small unadapted tensors gain nothing by it."""
        return self.adapted and self.on_host

    def buffers(self, name: str) -> list[Tensor]:
        """The state tensors called `name`, one a parameter."""
        return [state[name] for state in self.states]


def is_adapted(param: Tensor) -> bool:
    """Whether a tensor gets weight decay and a factor of its own: all but biases, norm scales and scalars."""
    return param.ndim > 1


def state_dtype(param: Tensor) -> torch.dtype:
    """The dtype of a parameter's optimizer state: float32 at least, since 16-bit buffers lose small steps."""
    return torch.promote_types(param.dtype, torch.float32)


def buckets(params: Iterable[Tensor], states: MutableMapping[Tensor, Any], names: Sequence[str]) -> list[Bucket]:
    """Sort the parameters that have a gradient into buckets, and give new ones zeroed buffers called `names`."""
    found: dict[tuple[torch.device, torch.dtype, bool], Bucket] = {}
    for position, param in enumerate(params):
        grad = param.grad
        if grad is None:
            continue
        key = (param.device, param.dtype, is_adapted(param))
        bucket = found.get(key)
        if bucket is None:
            bucket = found[key] = Bucket([], [], [], key[2], [])
        state = states[param]
        for name in names:
            if name not in state:
                state[name] = torch.zeros_like(param, dtype=state_dtype(param), memory_format=torch.preserve_format)
        bucket.params.append(param)
        bucket.grads.append(grad)
        bucket.states.append(state)
        bucket.positions.append(position)
    return list(found.values())


def trust_ratio(weight_norms: Tensor, direction_norms: Tensor, coefficient: float = 1.0) -> Tensor:
    """`coefficient * ||w|| / ||d||`, and 1 where either norm is zero. All of shape (layers,)."""
    usable = (weight_norms > 0) & (direction_norms > 0)
    return torch.where(usable, coefficient * weight_norms / direction_norms, 1.0)


class LayerScale(Protocol):
    """From the norms of weights and directions, each of shape (layers,), to the factors of the layers.

    On the host layer by layer, each told by its place in the bucket, with plain numbers: in the midst of a step,
    with the caches full of weights, a handful of operations on tiny tensors costs as much as a layer.
    """

    def __call__(self, weight_norms: Tensor, direction_norms: Tensor, /) -> Tensor: ...

    def on_host(self, layer: int, weight_norm: float, direction_norm: float, /) -> float: ...


@dataclass(frozen=True)
class TrustRatio:
    """`trust_ratio` as a `LayerScale`."""

    coefficient: float = 1.0

    def __call__(self, weight_norms: Tensor, direction_norms: Tensor) -> Tensor:
        return trust_ratio(weight_norms, direction_norms, self.coefficient)

    def on_host(self, layer: int, weight_norm: float, direction_norm: float) -> float:
        """The factor of one layer."""
        if weight_norm > 0 and direction_norm > 0:
            return self.coefficient * weight_norm / direction_norm
        return 1.0 if weight_norm == weight_norm and direction_norm == direction_norm else math.nan


def show_to(
    observe: Observer,
    bucket: Bucket,
    weight_norms: Tensor | None,
    ratios: Tensor | None,
    common_scale: Tensor | None = None,
) -> None:
    """Have a bucket observed; norms that its update did without are computed, factors are 1 where it has none."""
    dtype = state_dtype(bucket.params[0])
    factors = (1.0 if factor is None else factor for factor in (ratios, common_scale))
    if bucket.on_host and not bucket.adapted:
        found = host_norms([*bucket.params, *bucket.grads], dtype)
        observe(bucket, found[: len(bucket.params)], found[len(bucket.params) :], *factors)
        return
    weights = norms(bucket.params, dtype) if weight_norms is None else weight_norms
    observe(bucket, weights, norms(bucket.grads, dtype), *factors)


def momentum_step(
    bucket: Bucket,
    group: Mapping[str, Any],
    layer_scale: LayerScale,
    common_scale: Tensor | None = None,
    observe: Observer | None = None,
) -> None:
    """The update of LARS and its kin, in place on the parameters and on their `momentum_buffer`.

    `mu = momentum * mu + q * d` and `w = w - lr * mu` (Nesterov: `w - lr * (q * d + momentum * mu)`), where q
    is `layer_scale` of the layer's norms (1 where nothing is adapted) times `common_scale`, a tensor of shape
    (). The hyperparameters `lr`, `momentum`, `weight_decay`, `nesterov` and `maximize` are those of `group`.
    """
    if bucket.blocked:
        _blocked_momentum_step(bucket, group, layer_scale, common_scale, observe)
    elif not (bucket.on_host and not bucket.adapted and _fused_unadapted_step(bucket, group, common_scale, observe)):
        _foreach_momentum_step(bucket, group, layer_scale, common_scale, observe)


def _blocked_momentum_step(
    bucket: Bucket,
    group: Mapping[str, Any],
    layer_scale: LayerScale,
    common_scale: Tensor | None,
    observe: Observer | None,
) -> None:
    weight_decay, maximize = group["weight_decay"], group["maximize"]
    common = 1.0 if common_scale is None else common_scale.item()
    scratch = Scratch(state_dtype(bucket.params[0]))
    seen = []
    layers = zip(bucket.params, bucket.grads, bucket.buffers("momentum_buffer"), strict=True)
    for layer, (param, grad, buffer) in enumerate(layers):
        squares = layer_squares(param, grad, scratch, weight_decay, maximize)
        weight_norm, grad_norm, direction_norm = map(math.sqrt, squares)
        ratio = layer_scale.on_host(layer, weight_norm, direction_norm)
        seen.append((weight_norm, grad_norm, ratio))
        _move_layer(param, grad, buffer, group, ratio * common, scratch)
    if observe is not None:
        weight_norms, grad_norms, ratios = zip(*seen, strict=True)
        observe(bucket, weight_norms, grad_norms, ratios, common)


def _move_layer(
    param: Tensor, grad: Tensor, buffer: Tensor, group: Mapping[str, Any], q: float, scratch: Scratch
) -> None:
    weight_decay, nesterov = group["weight_decay"], group["nesterov"]
    is_fused = fused.sgd_fits((param, grad, buffer), group)
    if is_fused and fused.takes_factor(q, group, param.dtype):
        fused.sgd([param], [grad], [buffer], group, weight_decay, q)
        return
    for w, g, mu in blocks(param, grad, buffer):
        room = scratch.like(w)
        if is_fused:
            fused.sgd([w], [torch.mul(g, q, out=room)], [mu], group, q * weight_decay)
            continue
        # d is made anew: cheaper than to have kept it
        d = torch.mul(block_direction(w, g, room, weight_decay, group["maximize"]), q, out=room)
        torch.add(d, mu, alpha=group["momentum"], out=mu)
        w.add_(d.add_(mu, alpha=group["momentum"]) if nesterov else mu, alpha=-float(group["lr"]))


def _fused_unadapted_step(
    bucket: Bucket, group: Mapping[str, Any], common_scale: Tensor | None, observe: Observer | None
) -> bool:
    """The update of many small tensors on CPU in one call; False where the kernel does not fit."""
    grads, buffers = bucket.grads, bucket.buffers("momentum_buffer")
    if not fused.sgd_fits((*bucket.params, *grads, *buffers), group):
        return False
    if observe is not None:
        show_to(observe, bucket, None, None, common_scale)
    q = 1.0 if common_scale is None else common_scale.item()
    if not fused.takes_factor(q, group, grads[0].dtype):
        grads, q = list(torch._foreach_mul(grads, q)), 1.0
    fused.sgd(bucket.params, grads, buffers, group, 0.0, q)
    return True


def _foreach_momentum_step(
    bucket: Bucket,
    group: Mapping[str, Any],
    layer_scale: LayerScale,
    common_scale: Tensor | None,
    observe: Observer | None,
) -> None:
    dtype = state_dtype(bucket.params[0])
    buffers = bucket.buffers("momentum_buffer")
    directions = list_directions(
        bucket.params, bucket.grads, dtype, group["weight_decay"] if bucket.adapted else 0.0, group["maximize"]
    )
    scale, weight_norms, ratios = common_scale, None, None
    if bucket.adapted:
        weight_norms = norms(bucket.params, dtype)
        ratios = layer_scale(weight_norms, norms(directions, dtype))
        scale = ratios if common_scale is None else ratios * common_scale
    if observe is not None:
        show_to(observe, bucket, weight_norms, ratios, common_scale)
    if scale is not None:
        directions = scale_list(directions, scale.to(dtype))
    torch._foreach_mul_(buffers, group["momentum"])
    torch._foreach_add_(buffers, directions)
    # one addition to the parameters, since each one rounds where they have 16 bits
    steps = torch._foreach_add(directions, buffers, alpha=group["momentum"]) if group["nesterov"] else buffers
    descend(bucket.params, steps, group["lr"])
