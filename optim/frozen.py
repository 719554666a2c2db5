"""A model held still: what the diagnostics measure on, so that they change nothing of the model in training."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

BatchNormMode = Literal["train", "eval"]
LossFunction = Callable[[nn.Module, Any], Tensor]
"""From the model and a batch, whatever that is, to the mean loss, a tensor of shape ()."""


@contextmanager
def frozen_copy(model: nn.Module, batchnorm: BatchNormMode, seed: int) -> Iterator[nn.Module]:
    """A copy of the model to measure on; on leaving, torch's random number generators are as they were.

    Everything is in evaluation mode (no dropout), but for the batch norms with running statistics, which follow
    `batchnorm`: with "train" they normalise by the batch, as the training loss does. The copy's buffers may
    change, the model's do not. The model's hooks on forward and backward passes are
    not called.

    Raises:
        ValueError: `batchnorm` is neither "train" nor "eval".
    """
    if batchnorm not in ("train", "eval"):
        raise ValueError(f"batchnorm must be train or eval, but got {batchnorm!r}")
    # what watches the training must neither be copied nor see these passes
    hooks = [h for m in model.modules() for h in (m._forward_hooks, m._backward_hooks, m._backward_pre_hooks)]
    twin = copy.deepcopy(model, {id(some): OrderedDict() for some in hooks}).eval()
    for module in twin.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.train(batchnorm == "train")
    devices = sorted({param.device.index or 0 for param in twin.parameters() if param.device.type == "cuda"})
    # fused attention kernels cannot be differentiated twice
    with torch.random.fork_rng(devices), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        torch.manual_seed(seed)
        yield twin


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained.

    Raises:
        ValueError: there are none.
    """
    params = [param for param in model.parameters() if param.requires_grad]
    if not params:
        raise ValueError("the model must have parameters with requires_grad=True, but got none")
    return params


def scalar_loss(loss_function: LossFunction, model: nn.Module, batch: Any) -> Tensor:
    """The loss on a batch.

    Raises:
        ValueError: it is not a tensor of shape ().
    """
    loss = loss_function(model, batch)
    if not isinstance(loss, Tensor) or loss.ndim != 0:
        raise ValueError(f"loss_function must give a tensor of shape (), but got {type(loss).__name__} {loss!r:.80}")
    return loss


def flat_gradient(loss: Tensor, params: list[nn.Parameter], create_graph: bool = False) -> Tensor:
    """The gradient as one vector, shape (parameters,); zero where the loss does not depend on one."""
    grads = torch.autograd.grad(loss, params, create_graph=create_graph, materialize_grads=True)
    return torch.cat([grad.reshape(-1) for grad in grads])
