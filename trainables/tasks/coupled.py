"""The gradient of a loss that couples all samples of the global batch, also where they do not fit in memory at once.

The way in two passes is that of Gao, Zhang, Han, Callan, "Scaling Deep Contrastive Learning Batch Size under Memory
Limited Setup", arXiv 2101.06983: the loss sees a micro-batch through its embeddings alone, so their gradients, once
known, are all that is needed to differentiate each micro-batch by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainables.workers import Workers

if TYPE_CHECKING:
    from trainables.tasks import CoupledTask


def _unscaled(loss: Tensor) -> Tensor:
    return loss


def coupled_gradient(
    task: CoupledTask,
    model: nn.Module,
    micro_batches: Sequence[Callable[[], Sequence[Tensor]]],
    workers: Workers,
    autocast: Callable[[], AbstractContextManager[object]],
    scale: Callable[[Tensor], Tensor] = _unscaled,
) -> dict[str, Tensor]:
    """Add to the parameters' gradients this worker's part of the gradient of one global loss.

    The mean of the parts over all workers is the gradient (see `trainables.workers`). Returns what the task's
    `embedding_loss` measured, detached: `loss` is that of the global batch, the same on every worker.

    One micro-batch is one ordinary pass. Several are embedded twice: first without a graph, for the loss and the
    gradients of all embeddings; then one by one with a graph, which takes those gradients back to the parameters.
    Random numbers and buffers start alike in both passes, so that dropout repeats and BatchNorm's running
    statistics move once. BatchNorm inside the model sees one micro-batch at a time, as it does in classification: a
    deviation from the undivided batch, but for which the gradient is exact. Hooks that record samples during
    backward see the second pass only.

    Args:
        micro_batches: each gives this worker's next augmented views, (samples, ...) a view, and is called once a
            pass, outside of `autocast`; the same views every time.
        autocast: a fresh context for each forward pass. It must not be entered around this call: the copies of
            weights that autocast keeps would come from the pass without a graph.
        scale: from a loss to what is differentiated, such as `GradScaler.scale`.
    """
    if len(micro_batches) == 1:
        with autocast():
            embeddings = task.embed(model, micro_batches[0]())
        measured = task.embedding_loss(embeddings, workers)
        torch.autograd.backward(scale(measured["loss"]))
        return _detached(measured)

    replay = _Replay(model)
    parts = []
    for views in micro_batches:
        images = views()
        with torch.no_grad(), autocast():
            parts.append(task.embed(model, images))
    embeddings = torch.cat(parts).requires_grad_()
    measured = task.embedding_loss(embeddings, workers)
    (gradient,) = torch.autograd.grad(scale(measured["loss"]), embeddings)
    replay.rewind()
    start = 0
    for views in micro_batches:
        images = views()
        with autocast():
            embedded = task.embed(model, images)
        torch.autograd.backward(embedded, gradient[start : start + len(embedded)])
        start += len(embedded)
    return _detached(measured)


class _Replay:
    """Random state and buffers as they are now, to be put back: another pass then does what this one did."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers = list(model.buffers())
        self._values = [buffer.clone() for buffer in self._buffers]
        self._host = torch.get_rng_state()
        devices = {tensor.device for tensor in model.parameters() if tensor.device.type == "cuda"}
        self._device_states = {device: torch.cuda.get_rng_state(device) for device in devices}

    def rewind(self) -> None:
        with torch.no_grad():
            for buffer, value in zip(self._buffers, self._values, strict=True):
                buffer.copy_(value)
        torch.set_rng_state(self._host)
        for device, state in self._device_states.items():
            torch.cuda.set_rng_state(state, device)


def _detached(measured: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in measured.items()}
