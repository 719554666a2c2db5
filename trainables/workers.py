"""The processes that train one model together, over plain torch.distributed (gloo or NCCL).

Convention of gradients, that of DistributedDataParallel: every worker differentiates a loss of its own, the mean of
these losses over the workers is the loss of the global batch, and so the mean over the workers of the parameters'
gradients is its gradient. Where the loss is a mean over samples, a worker's own is that of its share, weighted by the
share's size. Where the loss couples all samples, every worker computes the same loss of the global batch, from
statistics that went through `sum_with_gradient`; what reaches a worker's samples is then `size` times the whole
derivative of that one loss, and the mean over the workers takes the factor out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Workers:
    """This process among those that train together. All of them call the same methods in the same order.

    With one worker nothing is sent and the results are the arguments themselves.
    """

    rank: int = 0  # from 0
    size: int = 1

    @classmethod
    def current(cls) -> Workers:
        """Those of torch's default process group; without one, this process alone."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    def share(self, indices: Tensor) -> Tensor:
        """This worker's part of the first dimension; sizes differ by one at most, in the order of the ranks."""
        return indices if self.size == 1 else indices.tensor_split(self.size)[self.rank]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all workers, of the same shape, without a graph."""
        return tensor.detach() if self.size == 1 else _all_reduce(tensor.detach())

    def sum_with_gradient(self, tensor: Tensor) -> Tensor:
        """The sum over all workers, of the same shape; gradients are summed in the same way on their way back.

        So backward differentiates the sum of what all workers differentiate, with respect to this worker's tensor.
        """
        if self.size == 1:
            return tensor
        total: Tensor = _Sum.apply(tensor)
        return total

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all workers, concatenated along the first dimension, in which alone they may differ."""
        if self.size == 1:
            return tensor.detach()
        counts = [torch.zeros(1, dtype=torch.int64, device=_meeting_place(tensor)) for _ in range(self.size)]
        dist.all_gather(counts, torch.full_like(counts[0], len(tensor)))
        lengths = [int(count) for count in counts]
        # backends gather equal shapes only
        padded = tensor.new_zeros((max(lengths), *tensor.shape[1:]), device=counts[0].device)
        padded[: len(tensor)] = tensor.detach()
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)]).to(tensor.device)

    def agree(self, flag: bool) -> bool:
        """What the first worker says, told to all of them."""
        if self.size == 1:
            return flag
        word = torch.tensor([int(flag)])
        word = word.to(_meeting_place(word))
        dist.broadcast(word, src=0)
        return bool(word)

    def same(self, number: int) -> bool:
        """Whether all workers name the same number; they all hear the same answer."""
        if self.size == 1:
            return True
        moments = self.sum(torch.tensor([number, number * number], dtype=torch.float64))
        return bool(moments[0] ** 2 == self.size * moments[1])


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, tensor: Tensor) -> Tensor:
        return _all_reduce(tensor)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        return _all_reduce(gradient)


def _all_reduce(tensor: Tensor) -> Tensor:
    # a copy in any case: the collective works in place
    total = tensor.to(_meeting_place(tensor), copy=True, memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total.to(tensor.device)


def _meeting_place(tensor: Tensor) -> torch.device:
    """Where the process group can take `tensor`: gloo gathers on the host only, NCCL on the device only."""
    backends = dist.BackendConfig(dist.Backend(dist.get_backend_config())).get_device_backend_map()
    if backends.get(tensor.device.type, "gloo") != "gloo":
        return tensor.device
    return torch.device("cpu") if "cpu" in backends else torch.device("cuda", torch.cuda.current_device())
