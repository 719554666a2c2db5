"""The core that the layer-wise optimizers share: which tensors are adapted, their norms, and the update.

Layer-wise means: each parameter tensor ("layer") with more than one dimension gets its own factor on its
step, made of the L2 norms of the tensor and of its update direction. Tensors with `ndim <= 1` (biases, norm
scales) get neither a factor nor weight decay.

There are two ways through an update, with the same result up to rounding:

- *blocked*, on CPU: block by block, so that what one operation writes is still in the cache when the next
  reads it, and no temporary is larger than a block. Whole-tensor temporaries cost more in page faults than
  the arithmetic. Summing block by block also keeps float32 norms accurate: `torch.linalg.vector_norm` over
  10^7 elements at once is off by 4e-4.
- *foreach*, everywhere else and under `torch.compile`: few launches over whole lists of tensors.

Only the first reads values on the host: a step on a GPU never waits for the device. Norms are in the dtype of
the state: float32 squares vanish below about 1e-22, so a float32 layer whose elements are all smaller counts
as zero.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BLOCK = 131072  # elements; larger ones leave the cache, smaller ones pay for the calls

LayerScale = Callable[[Tensor, Tensor], Tensor]
"""From the norms of weights and directions, each of shape (layers,), to the factors, of shape (layers,)."""


@dataclass(frozen=True)
class Bucket:
    """Parameters of one group that are updated together: same device, same dtype, all adapted or none."""

    params: list[Tensor]
    grads: list[Tensor]
    states: list[dict[str, Tensor]]
    adapted: bool

    @property
    def blocked(self) -> bool:
        """Whether the cache-blocked way is the better one. Small unadapted tensors gain nothing by it."""
        return self.adapted and self.params[0].device.type == "cpu" and not torch.compiler.is_compiling()

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
    found: dict[tuple[torch.device, torch.dtype, bool], Bucket] = {}
    for param in params:
        grad = param.grad
        if grad is None:
            continue
        if grad.layout != torch.strided:
            raise RuntimeError(
                f"gradients must be dense, but a parameter of shape {tuple(param.shape)} got {grad.layout}: "
                "build its layer with sparse=False"
            )
        key = (param.device, param.dtype, is_adapted(param))
        bucket = found.get(key)
        if bucket is None:
            bucket = found[key] = Bucket([], [], [], key[2])
        state = states[param]
        for name in names:
            if name not in state:
                state[name] = torch.zeros_like(param, dtype=state_dtype(param), memory_format=torch.preserve_format)
        bucket.params.append(param)
        bucket.grads.append(grad)
        bucket.states.append(state)
    return list(found.values())


def trust_ratio(weight_norms: Tensor, direction_norms: Tensor, coefficient: float = 1.0) -> Tensor:
    """`coefficient * ||w|| / ||d||`, and 1 where either norm is zero. All of shape (layers,)."""
    usable = (weight_norms > 0) & (direction_norms > 0)
    return torch.where(usable, coefficient * weight_norms / direction_norms, 1.0)


def norms(tensors: list[Tensor], dtype: torch.dtype) -> Tensor:
    """The L2 norm of each tensor, computed in `dtype`: shape (tensors,)."""
    return torch.stack(list(torch._foreach_norm(tensors, 2, dtype=dtype)))


def blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Walk tensors of one shape together in flat blocks; as they are where one of them is not contiguous."""
    # more threads want more work at a time: a block is one parallel loop
    size = BLOCK * torch.get_num_threads()
    if not all(tensor.is_contiguous() for tensor in tensors):
        return iter((tensors,))
    if tensors[0].numel() <= size:
        return iter((tuple(tensor.view(-1) for tensor in tensors),))
    return zip(*(torch.split(tensor.view(-1), size) for tensor in tensors), strict=True)


def join_norms(parts: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """The L2 norms of tensors from those of their blocks: one tuple a block, one entry a tensor."""
    if len(parts) == 1:
        return parts[0]
    return tuple(torch.linalg.vector_norm(torch.stack(of_one)) for of_one in zip(*parts, strict=True))


class Scratch:
    """Memory for one block, reused from block to block and from layer to layer."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._memory = torch.empty(BLOCK * torch.get_num_threads(), dtype=dtype)

    def like(self, block: Tensor) -> Tensor:
        """Room in the shape of `block`, with whatever was written there before."""
        if block.ndim == 1 and block.numel() <= self._memory.numel():
            return self._memory[: block.numel()]
        return torch.empty_like(block, dtype=self.dtype)


def block_direction(weight: Tensor, grad: Tensor, room: Tensor, weight_decay: float, maximize: bool) -> Tensor:
    """`d = g + weight_decay * w` (-g where maximizing), in `room` or `grad` itself: to be read only."""
    if grad.dtype != room.dtype:
        grad = room.copy_(grad)
    if maximize:
        grad = torch.neg(grad, out=room)
    return torch.add(grad, weight, alpha=weight_decay, out=room) if weight_decay else grad


def list_directions(bucket: Bucket, dtype: torch.dtype, weight_decay: float, maximize: bool) -> list[Tensor]:
    """`block_direction` for whole lists of tensors; the gradients themselves where nothing changes them."""
    directions: Any = [grad.to(dtype) for grad in bucket.grads]
    if maximize:
        directions = torch._foreach_neg(directions)
    if weight_decay:
        directions = torch._foreach_add(directions, bucket.params, alpha=weight_decay)
    return list(directions)


def scale_list(tensors: list[Tensor], scale: Tensor) -> list[Tensor]:
    """Each tensor times its entry of `scale` (shape (tensors,)), or all times the one of shape ()."""
    if scale.ndim == 0:
        return list(torch._foreach_mul(tensors, scale))
    return list(torch._foreach_mul(tensors, scale.unbind()))


def momentum_step(
    bucket: Bucket, group: Mapping[str, Any], layer_scale: LayerScale, common_scale: Tensor | None = None
) -> None:
    """The update of LARS and its kin, in place on the parameters and on their `momentum_buffer`.

    `mu = momentum * mu + q * d` and `w = w - lr * mu` (Nesterov: `w - lr * (q * d + momentum * mu)`), where q
    is `layer_scale` of the layer's norms (1 where nothing is adapted) times `common_scale`, a tensor of shape
    (). The hyperparameters `lr`, `momentum`, `weight_decay`, `nesterov` and `maximize` are those of `group`.
    """
    move = _blocked_momentum_step if bucket.blocked else _foreach_momentum_step
    move(bucket, group, layer_scale, common_scale)


def _blocked_momentum_step(
    bucket: Bucket, group: Mapping[str, Any], layer_scale: LayerScale, common_scale: Tensor | None
) -> None:
    weight_decay, maximize, momentum, lr = (group[k] for k in ("weight_decay", "maximize", "momentum", "lr"))
    scratch = Scratch(state_dtype(bucket.params[0]))
    layer_norms = []
    for param, grad in zip(bucket.params, bucket.grads, strict=True):
        parts = []
        for w, g in blocks(param, grad):
            d = block_direction(w, g, scratch.like(w), weight_decay, maximize)
            parts.append(torch._foreach_norm([w, d], 2, dtype=scratch.dtype))
        layer_norms.append(join_norms(parts))

    weight_norms, direction_norms = (torch.stack(of_one) for of_one in zip(*layer_norms, strict=True))
    scale = layer_scale(weight_norms, direction_norms)
    if common_scale is not None:
        scale = scale * common_scale
    layers = zip(
        bucket.params,
        bucket.grads,
        bucket.buffers("momentum_buffer"),
        scale.unbind(),
        scale.tolist(),
        strict=True,
    )
    # last layer first, since it is the one still cached
    for param, grad, buffer, q, host_q in reversed(list(layers)):
        if _fusable(param, grad, buffer, group, host_q):
            torch._fused_sgd_(
                [param],
                [grad],
                [buffer],
                lr=lr,
                momentum=momentum,
                dampening=1 - host_q,
                weight_decay=weight_decay,
                nesterov=False,
                maximize=maximize,
                is_first_step=False,
            )
            continue
        # d is made anew: cheaper than to have kept it
        for w, g, mu in blocks(param, grad, buffer):
            room = scratch.like(w)
            d = torch.mul(block_direction(w, g, room, weight_decay, maximize), q, out=room)
            torch.add(d, mu, alpha=momentum, out=mu)
            w.add_(d.add_(mu, alpha=momentum) if group["nesterov"] else mu, alpha=-lr)


def _fusable(param: Tensor, grad: Tensor, buffer: Tensor, group: Mapping[str, Any], q: float) -> bool:
    """Whether torch's one-pass SGD kernel computes the same update of a layer, with q as `1 - dampening`.

    Half the time of single operations. It reads the scale on the host, which makes nobody wait on CPU. Its
    Nesterov step would take d without q, it ignores dampening without momentum, and small q drown in the
    subtraction from 1.
    """
    return (
        param.dtype == grad.dtype == torch.float32
        and all(tensor.is_contiguous() for tensor in (param, grad, buffer))
        and group["momentum"] > 0
        and not group["nesterov"]
        and q > 1e-6
    )


def _foreach_momentum_step(
    bucket: Bucket, group: Mapping[str, Any], layer_scale: LayerScale, common_scale: Tensor | None
) -> None:
    dtype = state_dtype(bucket.params[0])
    directions = list_directions(bucket, dtype, group["weight_decay"] if bucket.adapted else 0.0, group["maximize"])
    scale = common_scale
    if bucket.adapted:
        scale = layer_scale(norms(bucket.params, dtype), norms(directions, dtype))
        if common_scale is not None:
            scale = scale * common_scale
    if scale is not None:
        directions = scale_list(directions, scale.to(dtype))
    buffers = bucket.buffers("momentum_buffer")
    torch._foreach_mul_(buffers, group["momentum"])
    torch._foreach_add_(buffers, directions)
    # one addition to the parameters, since each one rounds where they have 16 bits
    steps = torch._foreach_add(directions, buffers, alpha=group["momentum"]) if group["nesterov"] else buffers
    torch._foreach_add_(bucket.params, steps, alpha=-group["lr"])
