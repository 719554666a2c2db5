"""The core that the layer-wise optimizers share: which tensors are adapted, their norms, and the update.

Layer-wise means: each parameter tensor ("layer") with more than one dimension gets its own factor on its
step, made of the L2 norms of the tensor and of its update direction. Tensors with `ndim <= 1` (biases, norm
scales) get neither a factor nor weight decay.

There are two ways through an update, with the same result up to rounding:

- *blocked*, on CPU: a few layers at a time, norms and then update, so that weights and gradients are read from
  memory once; and block by block within a layer (`optim.blocks`).
- *foreach*, everywhere else and under `torch.compile`: few launches over whole lists of tensors.

Only the first reads values on the host: a step on a GPU never waits for the device. Norms are in the dtype of
the state: float32 squares vanish below about 1e-22, so a float32 layer whose elements are all smaller counts
as zero.
"""

import math
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optim.blocks import Scratch, block_direction, block_squares, blocks
from optim.lists import descend, host_norms, list_directions, norms, scale_list

CHUNK = 524288  # elements; a bucket on CPU is closed when it holds as many, while its layers are still cached

LayerScale = Callable[[Tensor, Tensor], Tensor]
"""From the norms of weights and directions, each of shape (layers,), to the factors, of shape (layers,)."""
LayerValues = Tensor | Sequence[float] | float  # of shape (layers,), or () for one value that holds for all

Observer = Callable[["Bucket", LayerValues, LayerValues, LayerValues, LayerValues], None]
"""Sees a bucket before its update: norms of weights and gradients, factors of the layers, common factor."""


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
    """Sort the parameters that have a gradient into buckets, and give new ones zeroed buffers called `names`.

    Raises:
        RuntimeError: a gradient is sparse.
    """
    found: list[Bucket] = []
    still_open: dict[tuple[torch.device, torch.dtype, bool], Bucket] = {}
    elements: dict[tuple[torch.device, torch.dtype, bool], int] = {}
    for position, param in enumerate(params):
        grad = param.grad
        if grad is None:
            continue
        if grad.layout != torch.strided:
            raise RuntimeError(
                f"gradients must be dense, but a parameter of shape {tuple(param.shape)} got {grad.layout}: "
                "build its layer with sparse=False"
            )
        key = (param.device, param.dtype, is_adapted(param))
        bucket = still_open.get(key)
        if bucket is None:
            bucket = still_open[key] = Bucket([], [], [], key[2], [])
            elements[key] = 0
            found.append(bucket)
        state = states[param]
        for name in names:
            if name not in state:
                state[name] = torch.zeros_like(param, dtype=state_dtype(param), memory_format=torch.preserve_format)
        bucket.params.append(param)
        bucket.grads.append(grad)
        bucket.states.append(state)
        bucket.positions.append(position)
        elements[key] += param.numel()
        if elements[key] >= CHUNK and bucket.blocked:
            del still_open[key]
    return found


def trust_ratio(weight_norms: Tensor, direction_norms: Tensor, coefficient: float = 1.0) -> Tensor:
    """`coefficient * ||w|| / ||d||`, and 1 where either norm is zero. All of shape (layers,)."""
    usable = (weight_norms > 0) & (direction_norms > 0)
    return torch.where(usable, coefficient * weight_norms / direction_norms, 1.0)


@dataclass(frozen=True)
class TrustRatio:
    """`trust_ratio` as a `LayerScale` that also works on the host.

    In the midst of a step, with the caches full of weights, a handful of operations on tiny tensors costs as
    much as a layer.
    """

    coefficient: float

    def __call__(self, weight_norms: Tensor, direction_norms: Tensor) -> Tensor:
        return trust_ratio(weight_norms, direction_norms, self.coefficient)

    def on_host(self, weight_norm: float, direction_norm: float) -> float:
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
    measure = host_norms if bucket.on_host and not bucket.adapted else norms
    weights = measure(bucket.params, dtype) if weight_norms is None else weight_norms
    factors = (1.0 if factor is None else factor for factor in (ratios, common_scale))
    observe(bucket, weights, measure(bucket.grads, dtype), *factors)


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
    move = _blocked_momentum_step if bucket.blocked else _foreach_momentum_step
    move(bucket, group, layer_scale, common_scale, observe)


def _blocked_momentum_step(
    bucket: Bucket,
    group: Mapping[str, Any],
    layer_scale: LayerScale,
    common_scale: Tensor | None,
    observe: Observer | None,
) -> None:
    weight_decay, maximize, momentum = (group[k] for k in ("weight_decay", "maximize", "momentum"))
    scratch = Scratch(state_dtype(bucket.params[0]))
    norms_of_layers = []
    for param, grad in zip(bucket.params, bucket.grads, strict=True):
        of_blocks = [block_squares(w, g, scratch, weight_decay, maximize) for w, g in blocks(param, grad, of=2)]
        norms_of_layers.append([math.sqrt(sum(column)) for column in zip(*of_blocks, strict=True)])
    weight_norms, grad_norms, direction_norms = zip(*norms_of_layers, strict=True)
    if isinstance(layer_scale, TrustRatio):
        ratios = list(map(layer_scale.on_host, weight_norms, direction_norms))
    else:
        found = torch.tensor([weight_norms, direction_norms], dtype=scratch.dtype)
        ratios = layer_scale(found[0], found[1]).tolist()
    common = 1.0 if common_scale is None else common_scale.item()
    if observe is not None:
        observe(bucket, weight_norms, grad_norms, ratios, common)
    layers = zip(bucket.params, bucket.grads, bucket.buffers("momentum_buffer"), ratios, strict=True)
    # last layer first, since it is the one still cached
    for param, grad, buffer, ratio in reversed(list(layers)):
        q = ratio * common
        if _fused_step([param], [grad], [buffer], group, weight_decay, q):
            continue
        # d is made anew: cheaper than to have kept it
        for w, g, mu in blocks(param, grad, buffer):
            room = scratch.like(w)
            d = torch.mul(block_direction(w, g, room, weight_decay, maximize), q, out=room)
            torch.add(d, mu, alpha=momentum, out=mu)
            w.add_(d.add_(mu, alpha=momentum) if group["nesterov"] else mu, alpha=-float(group["lr"]))


def _fused_step(
    params: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor],
    group: Mapping[str, Any],
    weight_decay: float,
    q: float,
) -> bool:
    """The update by torch's one-pass SGD kernel, with q as `1 - dampening`; False where that is another one.

    Half the time of single operations. Its Nesterov step would take d without q, it ignores dampening without
    momentum, and small q drown in the subtraction from 1.
    """
    if not (
        q > 1e-6
        and group["momentum"] > 0
        and (q == 1.0 or not group["nesterov"])
        and all(tensor.dtype == torch.float32 for tensor in (*params, *grads))
        and all(tensor.is_contiguous() for tensor in (*params, *grads, *buffers))
    ):
        return False
    torch._fused_sgd_(
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
    if bucket.on_host and not bucket.adapted:
        q = 1.0 if scale is None else scale.item()
        if _fused_step(bucket.params, bucket.grads, buffers, group, 0.0, q):
            return
    if scale is not None:
        directions = scale_list(directions, scale.to(dtype))
    torch._foreach_mul_(buffers, group["momentum"])
    torch._foreach_add_(buffers, directions)
    # one addition to the parameters, since each one rounds where they have 16 bits
    steps = torch._foreach_add(directions, buffers, alpha=group["momentum"]) if group["nesterov"] else buffers
    descend(bucket.params, steps, group["lr"])
