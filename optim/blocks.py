"""Walking large tensors on CPU block by block, so that what one operation writes is cached for the next.

Whole-tensor temporaries cost more in page faults than the arithmetic; here no temporary is larger than a
block. Summing block by block also keeps float32 norms accurate: `torch.linalg.vector_norm` over 10^7 elements
at once is off by 4e-4.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 131072  # elements; larger ones leave the cache, smaller ones pay for the calls


def blocks(*tensors: Tensor, of: int = 1) -> Iterator[tuple[Tensor, ...]]:
    """Walk tensors of one shape together in flat blocks of `of * BLOCK` elements, to be read where `of` is more than 1.

    They come as they are where one of them is not contiguous.
    """
    # more threads want more work at a time: a block is one parallel loop
    size = of * BLOCK * torch.get_num_threads()
    if not all(tensor.is_contiguous() for tensor in tensors):
        return iter((tensors,))
    if tensors[0].numel() <= size:
        return iter((tuple(tensor.view(-1) for tensor in tensors),))
    return zip(*(torch.split(tensor.view(-1), size) for tensor in tensors), strict=True)


class Scratch:
    """Memory for one block, reused from block to block and from layer to layer; taken when it is first needed."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._size = BLOCK * torch.get_num_threads()
        self._memory: Tensor | None = None

    def like(self, block: Tensor) -> Tensor:
        """Room in the shape of `block`, with whatever was written there before."""
        if block.ndim != 1 or block.numel() > self._size:
            return torch.empty_like(block, dtype=self.dtype)
        if self._memory is None:
            self._memory = torch.empty(self._size, dtype=self.dtype)
        return self._memory[: block.numel()]


def block_direction(weight: Tensor, grad: Tensor, room: Tensor, weight_decay: float, maximize: bool) -> Tensor:
    """`d = g + weight_decay * w` (-g where maximizing), in `room` or `grad` itself: to be read only."""
    if grad.dtype != room.dtype:
        grad = room.copy_(grad)
    if maximize:
        grad = torch.neg(grad, out=room)
    return torch.add(grad, weight, alpha=weight_decay, out=room) if weight_decay else grad


def square(block: Tensor, dtype: torch.dtype) -> float:
    """The squared L2 norm of a block, summed in `dtype`."""
    if block.ndim == 1 and block.dtype == dtype:
        return torch.dot(block, block).item()
    return torch.linalg.vector_norm(block, dtype=dtype).item() ** 2


def block_squares(
    weight: Tensor, grad: Tensor, scratch: Scratch, weight_decay: float, maximize: bool
) -> tuple[float, float, float]:
    """The squared norms of a block of weights, of its gradient and of its direction.

    By the dot product of weights and gradient where one is cheaper than to make the direction. Where the two
    cancel, it would lose its digits: then the direction is made and measured.
    """
    if not (weight.ndim == 1 and weight.dtype == grad.dtype == scratch.dtype):
        direction = block_direction(weight, grad, scratch.like(weight), weight_decay, maximize)
        return square(weight, scratch.dtype), square(grad, scratch.dtype), square(direction, scratch.dtype)
    # both together first: two streams from memory are faster than one after the other
    mixed = 2 * weight_decay * torch.dot(weight, grad).item() if weight_decay else 0.0
    of_weight, of_grad = square(weight, scratch.dtype), square(grad, scratch.dtype)
    apart = of_grad + weight_decay**2 * of_weight
    of_direction = apart - mixed if maximize else apart + mixed
    if of_direction < 0.25 * apart:
        direction = block_direction(weight, grad, scratch.like(weight), weight_decay, maximize)
        of_direction = square(direction, scratch.dtype)
    return of_weight, of_grad, of_direction
