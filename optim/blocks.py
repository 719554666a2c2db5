"""Walking large tensors on CPU block by block, so that what one operation writes is cached for the next.

Whole-tensor temporaries cost more in page faults than the arithmetic; here a temporary is as large as a block, or
reused from layer to layer. Summing block by block also keeps float32 norms accurate:
`torch.linalg.vector_norm` over 10^7 elements at once is off by 4e-4.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

BLOCK = 131072  # elements; larger ones leave the cache, smaller ones pay for the calls
SHELF = 2**22  # elements of a layer's direction that are kept until the update
ROW = 8192  # elements that numpy sums at once; from 10,000 on, OpenBLAS would use threads, as many as it likes
ROWS = 24  # of them at a time, so that both operands stay in the second-level cache


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


class Shelf:
    """Memory for many blocks at a time, up to `SHELF` elements; taken when it is first needed, and reused."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._memory: Tensor | None = None
        self._used = 0

    def clear(self) -> None:
        """Hand out the same memory once more."""
        self._used = 0

    def take(self, block: Tensor) -> Tensor | None:
        """Room in the shape of a flat `block`, for good; None where there is no more."""
        end = self._used + block.numel()
        if block.ndim != 1 or end > SHELF:
            return None
        if self._memory is None:
            self._memory = torch.empty(SHELF, dtype=self.dtype)
        room = self._memory[self._used : end]
        self._used = end
        return room


def block_direction(weight: Tensor, grad: Tensor, room: Tensor, weight_decay: float, maximize: bool) -> Tensor:
    """`d = g + weight_decay * w` (-g where maximizing), in `room` or `grad` itself: to be read only."""
    if grad.dtype != room.dtype:
        grad = room.copy_(grad)
    if maximize:
        grad = torch.neg(grad, out=room)
    return torch.add(grad, weight, alpha=weight_decay, out=room) if weight_decay else grad


def square(block: Tensor, dtype: torch.dtype) -> float:
    """The squared L2 norm of a block, summed in `dtype`."""
    if block.ndim != 1 or block.dtype != dtype:
        return torch.linalg.vector_norm(block, dtype=dtype).item() ** 2
    if not _readable_by_numpy(block):
        return torch.dot(block, block).item()
    values = block.numpy()
    whole = values.size - values.size % ROW
    with np.errstate(all="ignore"):
        rows, rest = values[:whole].reshape(-1, ROW), values[whole:]
        return float(np.vecdot(rows, rows).sum(dtype=np.float64) + np.dot(rest, rest))


def layer_squares(
    weight: Tensor, grad: Tensor, scratch: Scratch, weight_decay: float, maximize: bool
) -> tuple[float, float, float]:
    """The squared norms of a layer's weights, of its gradient and of its direction.

    By the inner product of weights and gradient where one is cheaper than to make the direction. Where the two
    cancel, it would lose its digits: then the direction is made and measured.
    """
    dtype, of_direction, apart = scratch.dtype, 0.0, math.inf
    if weight.dtype == grad.dtype == dtype and weight.is_contiguous() and grad.is_contiguous():
        of_weight, of_grad, mixed = _inner_products(weight.view(-1), grad.view(-1))
        apart = of_grad + weight_decay**2 * of_weight
        of_direction = apart + 2 * weight_decay * (-mixed if maximize else mixed)
    else:
        pairs = list(blocks(weight, grad))
        of_weight, of_grad = sum(square(w, dtype) for w, _ in pairs), sum(square(g, dtype) for _, g in pairs)
    if of_direction < 0.25 * apart:
        of_direction = sum(
            square(block_direction(w, g, scratch.like(w), weight_decay, maximize), dtype)
            for w, g in blocks(weight, grad)
        )
    return of_weight, of_grad, of_direction


def _inner_products(first: Tensor, second: Tensor) -> Sequence[float]:
    """`<a, a>`, `<b, b>` and `<a, b>` of flat tensors; block by block, so that memory is read once."""
    if not (_readable_by_numpy(first) and _readable_by_numpy(second)):
        of_blocks = [
            (torch.dot(a, b).item(), torch.dot(a, a).item(), torch.dot(b, b).item())
            for a, b in blocks(first, second, of=2)
        ]
        mixed, of_first, of_second = map(sum, zip(*of_blocks, strict=True))
        return of_first, of_second, mixed
    a, b = first.numpy(), second.numpy()
    with np.errstate(all="ignore"):  # what is infinite is for the caller to see, as with torch
        whole, rest = a.size - a.size % ROW, [0.0, 0.0, 0.0]
        if whole < a.size:
            x, y = a[whole:], b[whole:]
            rest = [float(x.dot(x)), float(y.dot(y)), float(x.dot(y))]
        if not whole:
            return rest
        rows_a, rows_b = a[:whole].reshape(-1, ROW), b[:whole].reshape(-1, ROW)
        of_first, of_second, mixed = found = np.empty((3, len(rows_a)), dtype=a.dtype)
        for start in range(0, len(rows_a), ROWS):
            some = slice(start, start + ROWS)
            x, y = rows_a[some], rows_b[some]
            # both together first: two streams from memory are faster than one after the other
            np.vecdot(x, y, mixed[some])
            np.vecdot(x, x, of_first[some])
            np.vecdot(y, y, of_second[some])
        return [sum(row, extra) for row, extra in zip(found.tolist(), rest, strict=True)]


def _readable_by_numpy(block: Tensor) -> bool:
    """Whether numpy may do the sums: on one thread its BLAS is up to twice as fast as torch's (MKL on AMD's CPUs)."""
    return torch.get_num_threads() == 1 and type(block) is Tensor
