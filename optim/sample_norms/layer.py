"""What is gathered for one layer between two optimizer steps, and what becomes of it."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from optim.trust import state_dtype


@dataclass(frozen=True)
class MeanNorms:
    """The mean per-sample gradient norms of one step. Tensors are on the device: reading a value waits for it."""

    names: tuple[str, ...]  # of the weights, as `named_parameters` has them
    means: Tensor  # (layers,)
    standard_errors: Tensor  # (layers,), of the means: 0 for "exact", nan for "micro_batch", which estimates no mean
    mode: str  # "exact", "subset" or "micro_batch"

    def relative_standard_error(self) -> Tensor:
        """The mean over the layers of standard error over mean, (); layers without a gradient have none."""
        ratios = self.standard_errors / self.means.where(self.means != 0, 1)
        return ratios.mean()

    def to_dict(self) -> dict[str, tuple[float, float]]:
        """Mean and standard error by name, with one copy to the host."""
        means, errors = torch.stack([self.means, self.standard_errors]).tolist()
        return dict(zip(self.names, zip(means, errors, strict=True), strict=True))


class Layer:
    """A weight, with the sum of its samples' norms since the last `clear`.

    The norms are of the samples' terms in the gradient as autograd gives it: for a mean loss, 1/B of their gradients.
    """

    def __init__(self, name: str, weight: Parameter) -> None:
        self.name = name
        self.weight = weight
        self.clear()

    def clear(self) -> None:
        self.total: Tensor | None = None  # sum of norms
        self.variance: Tensor | None = None  # of the total, as an estimate
        self.samples = 0
        self.missed = False  # whether a gradient came by a way that was not watched

    def begin(self) -> None:
        """Called before a backward pass adds to the gradient: where that is None, a new step has begun."""
        if self.weight.grad is None:
            self.clear()

    def add(self, total: Tensor, variance: Tensor, samples: int) -> None:
        """Add what one backward pass found: the sum of its samples' norms, and the variance of that sum."""
        self.total = total if self.total is None else self.total + total
        self.variance = variance if self.variance is None else self.variance + variance
        self.samples += samples

    def sums(self, samples: int) -> Tensor:
        """The total, its variance, and the number of samples: (3,), in the dtype of the weight's state."""
        dtype = state_dtype(self.weight)
        # filled and not copied: a copy from the host would wait for the device
        count = torch.full((), float(samples), dtype=dtype, device=self.weight.device)
        total, variance = (count.new_zeros(()) if one is None else one for one in (self.total, self.variance))
        return torch.stack([total, variance, count])
