"""One forward call of a layer, kept for its backward pass."""

import torch
from torch import Tensor, nn

from optim.sample_norms.terms import Term


class Use:
    """A layer and its input in one forward call.

    The input is kept as autograd keeps its own: freed with the graph's where checkpointing or offloading hooks
    say so, and refused if it was changed in place.
    """

    def __init__(self, kind: type[Term], module: nn.Module, inputs: Tensor) -> None:
        self.kind = kind
        self.module = module
        self._kept: Tensor | None = _Keep.apply(module.get_parameter("weight"), inputs.detach())

    def term(self, grads: Tensor) -> Term:
        """The term that this use adds, given the gradient of the layer's output."""
        assert self._kept is not None
        assert self._kept.grad_fn is not None
        (inputs,) = self._kept.grad_fn.saved_tensors  # type: ignore[attr-defined]
        return self.kind.of(self.module, inputs, grads)

    @property
    def spent(self) -> bool:
        return self._kept is None

    def release(self) -> None:
        """Let the input go, which would else live as long as the loss does."""
        self._kept = None


class _Keep(torch.autograd.Function):
    """An empty tensor whose node holds a tensor in the way of a saved one; no gradient ever flows through it."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, anchor: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(kept)
        return anchor.new_empty(0)
