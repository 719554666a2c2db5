"""What one use of a layer adds to its weight's gradient, sample by sample.

Every covered layer has a weight gradient that is a sum over samples of `left @ right.T`: per group, `left` is
(C, T), the gradient of the layer's output, and `right` is (D, T), its input, with C and D the rows and columns
of the weight as a matrix and T the positions of a sample: tokens of a sequence, pixels of an output. A sample is
one index of the first dimension, always.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

FEW_CHANNELS = 8


class Term(ABC):
    """One use of a layer in one backward pass: its input and the gradient of its output, samples first."""

    def __init__(self, module: nn.Module, inputs: Tensor, grads: Tensor) -> None:
        self.module = module
        self.inputs = inputs
        self.grads = grads

    @classmethod
    def of(cls, module: nn.Module, inputs: Tensor, grads: Tensor) -> "Term":
        """The term of a whole batch, as the hooks saw it."""
        return cls(module, inputs, grads)

    @classmethod
    @abstractmethod
    def is_batch(cls, module: nn.Module, output: Tensor) -> bool:
        """Whether an output has a first dimension for the samples."""

    @property
    def samples(self) -> int:
        return self.grads.shape[0]

    @property
    @abstractmethod
    def positions(self) -> int:
        """T, of one sample."""

    @property
    def matrix(self) -> tuple[int, int, int]:
        """(groups, C, D) of the weight."""
        weight = self.module.get_parameter("weight")
        return 1, weight.shape[0], weight[0].numel()

    def select(self, rows: Tensor) -> Self:
        """Some samples: `rows` (chosen,) are their places."""
        return type(self)(self.module, self.inputs.index_select(0, rows), self.grads.index_select(0, rows))

    def part(self, start: int, stop: int, dtype: torch.dtype) -> Self:
        """The samples from `start` to `stop`, with floating-point values in `dtype`."""
        if start == 0 and stop >= self.samples and self.grads.dtype == self.inputs.dtype == dtype:
            return self
        inputs = self.inputs[start:stop]
        if inputs.is_floating_point():
            inputs = inputs.to(dtype)
        return type(self)(self.module, inputs, self.grads[start:stop].to(dtype))

    @abstractmethod
    def factors(self) -> tuple[Tensor, Tensor]:
        """`left` (samples, groups, C, T) and `right` (samples, groups, D, T)."""

    def gradients(self) -> Tensor:
        """The weight gradient of each sample: (samples, elements of the weight)."""
        left, right = self.factors()
        return (left @ right.mT).flatten(1)


class LinearTerm(Term):
    """`nn.Linear` on (samples, ..., D): all dimensions between the first and the last are positions."""

    @classmethod
    def is_batch(cls, module: nn.Module, output: Tensor) -> bool:
        return output.ndim >= 2

    @property
    def positions(self) -> int:
        return math.prod(self.grads.shape[1:-1])

    def factors(self) -> tuple[Tensor, Tensor]:
        left, right = (t.reshape(len(t), 1, -1, t.shape[-1]).mT for t in (self.grads, self.inputs))
        return left, right


class EmbeddingTerm(Term):
    """`nn.Embedding` on (samples, ...): a linear layer on one-hot vectors, which are never made if avoidable."""

    @classmethod
    def of(cls, module: nn.Module, inputs: Tensor, grads: Tensor) -> "Term":
        assert isinstance(module, nn.Embedding)
        if module.padding_idx is not None:
            grads = grads.masked_fill((inputs == module.padding_idx).unsqueeze(-1), 0)
        if module.scale_grad_by_freq:
            ones = torch.ones(inputs.numel(), device=inputs.device, dtype=grads.dtype)
            counts = ones.new_zeros(module.num_embeddings).index_add_(0, inputs.flatten(), ones)
            grads = grads / counts[inputs].unsqueeze(-1)
        return cls(module, inputs, grads)

    @classmethod
    def is_batch(cls, module: nn.Module, output: Tensor) -> bool:
        return output.ndim >= 2

    @property
    def positions(self) -> int:
        return math.prod(self.inputs.shape[1:])

    @property
    def words(self) -> Tensor:
        """(samples, positions)."""
        return self.inputs.reshape(self.samples, -1)

    def factors(self) -> tuple[Tensor, Tensor]:
        vocabulary = self.matrix[1]
        left = F.one_hot(self.words, vocabulary).to(self.grads.dtype).mT
        return left.unsqueeze(1), self.grads.reshape(len(self.grads), 1, -1, self.grads.shape[-1]).mT

    @staticmethod
    def norms(terms: "list[EmbeddingTerm]") -> Tensor:
        """Norms (samples,) of the sum of some uses, in time linear in the positions.

        A sample's gradient has one row a word: the sum over the places where the word stands. Sorting brings
        these together.
        """
        words = torch.cat([term.words for term in terms], dim=1)
        grads = torch.cat([term.grads.reshape(*term.words.shape, -1) for term in terms], dim=1)
        words, order = words.sort(dim=1)
        rows = F.pad((words[:, 1:] != words[:, :-1]).cumsum(dim=1), (1, 0))
        everywhere = grads.shape
        grads = grads.gather(1, order.unsqueeze(-1).expand(everywhere))
        sums = torch.zeros_like(grads).scatter_add_(1, rows.unsqueeze(-1).expand(everywhere), grads)
        return torch.linalg.vector_norm(sums.flatten(1), dim=1)


class ConvTerm(Term):
    """`nn.Conv1d`, `nn.Conv2d`, `nn.Conv3d` on (samples, channels, ...): positions are the output's pixels."""

    @classmethod
    def is_batch(cls, module: nn.Module, output: Tensor) -> bool:
        return output.ndim == module.get_parameter("weight").ndim

    @property
    def conv(self) -> nn.Conv1d | nn.Conv2d | nn.Conv3d:
        assert isinstance(self.module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        return self.module

    @property
    def positions(self) -> int:
        return math.prod(self.grads.shape[2:])

    @property
    def matrix(self) -> tuple[int, int, int]:
        groups = self.conv.groups
        return groups, self.conv.out_channels // groups, self.conv.weight[0].numel()

    def factors(self) -> tuple[Tensor, Tensor]:
        conv, samples = self.conv, self.samples
        windows, zeros = self._padded()
        if any(zeros):
            windows = F.pad(windows, [amount for amount in reversed(zeros) for _ in range(2)])
        spatial = len(zeros)
        for dim, (size, step, gap) in enumerate(zip(conv.kernel_size, conv.stride, conv.dilation, strict=True), 2):
            windows = windows.unfold(dim, gap * (size - 1) + 1, step)[..., ::gap]
        # (samples, channels, *output, *kernel) -> (samples, groups, channels of a group * kernel, positions)
        order = (0, 1, *range(2 + spatial, 2 + 2 * spatial), *range(2, 2 + spatial))
        right = windows.permute(order).reshape(samples, conv.groups, -1, self.positions)
        return self.grads.reshape(samples, conv.groups, -1, self.positions), right

    def gradients(self) -> Tensor:
        """As one convolution with a group (or `groups` of them) for each sample, which needs no windows in memory.

        But for windows that are nothing but the input, and for channels too few for the kernels' vectors.
        """
        conv, samples = self.conv, self.samples
        if math.prod(conv.kernel_size) == 1 or conv.in_channels < FEW_CHANNELS:
            return super().gradients()
        inputs, zeros = self._padded()
        side_by_side = _WEIGHT_GRADIENTS[len(zeros)](
            inputs.reshape(1, -1, *inputs.shape[2:]),
            (samples * conv.out_channels, *conv.weight.shape[1:]),
            self.grads.reshape(1, -1, *self.grads.shape[2:]),
            conv.stride,
            zeros,
            conv.dilation,
            samples * conv.groups,
        )
        return side_by_side.view(samples, -1)

    def _padded(self) -> tuple[Tensor, tuple[int, ...]]:
        """The input with what padding needs writing out, and the zeros still to be added on both sides."""
        conv = self.conv
        if conv.padding == "valid":
            sides = [(0, 0) for _ in conv.kernel_size]
        elif conv.padding == "same":
            whole = [gap * (size - 1) for gap, size in zip(conv.dilation, conv.kernel_size, strict=True)]
            sides = [(amount // 2, amount - amount // 2) for amount in whole]
        else:
            sides = [(int(amount), int(amount)) for amount in conv.padding]
        if conv.padding_mode == "zeros" and all(before == after for before, after in sides):
            return self.inputs, tuple(before for before, _ in sides)
        mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
        amounts = [amount for pair in reversed(sides) for amount in pair]
        return F.pad(self.inputs, amounts, mode=mode), (0,) * len(sides)


_WEIGHT_GRADIENTS: dict[int, Callable[..., Tensor]] = {1: conv1d_weight, 2: conv2d_weight, 3: conv3d_weight}

_FORWARDS: dict[object, tuple[object, type[Term]]] = {
    nn.Linear.forward: (None, LinearTerm),
    nn.Embedding.forward: (None, EmbeddingTerm),
    nn.Conv1d.forward: (nn.Conv1d._conv_forward, ConvTerm),
    nn.Conv2d.forward: (nn.Conv2d._conv_forward, ConvTerm),
    nn.Conv3d.forward: (nn.Conv3d._conv_forward, ConvTerm),
}


def term_kind(module: nn.Module) -> type[Term] | None:
    """The kind of term that a layer adds to the gradient of its `weight`; None for one that is not covered.

    By what the layer computes and not by its class: one that overrides `forward` uses its weight in another way.
    """
    inner, kind = _FORWARDS.get(type(module).forward, (None, None))
    if kind is None or getattr(type(module), "_conv_forward", None) is not inner:
        return None
    return kind
