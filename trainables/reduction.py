"""What several workers must bring together at a step: gradients, the loss, the buffers of BatchNorm.

One collective for all gradients after the last micro-batch. DistributedDataParallel's buckets would overlap it with
the backward pass; here a step has many samples a worker, and one call serves plain, two-pass and hooked passes alike.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from trainables.workers import Workers


def average_gradients(parameters: Iterable[nn.Parameter], loss: Tensor, workers: Workers) -> Tensor:
    """Replace every gradient by its mean over the workers; returns the mean loss."""
    if workers.size == 1:
        return loss
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    mean_loss = _average([loss], workers)[0]
    for dtype in sorted({gradient.dtype for gradient in gradients}, key=str):
        same = [gradient for gradient in gradients if gradient.dtype == dtype]
        torch._foreach_copy_(same, _average(same, workers))
    return mean_loss


@torch.no_grad()
def average_buffers(model: nn.Module, workers: Workers) -> None:
    """Replace running statistics by their mean over the workers: all of them evaluate the same model."""
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    if workers.size > 1 and buffers:
        torch._foreach_copy_(buffers, _average(buffers, workers))


def _average(tensors: list[Tensor], workers: Workers) -> list[Tensor]:
    flat = workers.sum(torch.cat([tensor.detach().reshape(-1) for tensor in tensors])) / workers.size
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
