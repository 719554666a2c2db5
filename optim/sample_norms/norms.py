"""Norms of per-sample weight gradients from the terms of a layer's uses, by whichever way is cheaper.

Goodfellow, "Efficient Per-Example Gradient Computations", arXiv 1510.01799, for one position; Rochette, Manoel,
Tramel, "Efficient Per-Example Gradient Computations in Convolutional Neural Networks", arXiv 1912.06015, for the
convolution with a group for each sample.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from optim.sample_norms.terms import EmbeddingTerm, Term

CHUNK = {"cpu": 1 << 20}  # elements in flight; larger ones leave the cache, smaller ones pay for the calls
DEVICE_CHUNK = 1 << 26


def sample_norms(terms: Sequence[Term], dtype: torch.dtype) -> Tensor:
    """The norm of each sample's weight gradient, the sum over all uses of the layer: (samples,), in `dtype`.

    With G = groups and (C, D) a group of the weight as a matrix, T positions: the gradient itself costs T * C * D
    a group; the product of two Gram matrices, `sum_ts (left.T @ left)_ts * (right.T @ right)_ts`, costs
    T * T * (C + D) and gives its squared norm without it.
    """
    samples = terms[0].samples
    if samples == 0:
        return torch.zeros(0, dtype=dtype, device=terms[0].grads.device)
    groups, rows, columns = terms[0].matrix
    positions = sum(term.positions for term in terms)
    held = sum((term.grads.numel() + term.inputs.numel()) // samples for term in terms)
    if all(isinstance(term, EmbeddingTerm) for term in terms):
        norms, room = _by_word, 2 * held
    elif positions * (rows + columns) < rows * columns:
        norms, room = _by_gram, groups * positions * (rows + columns + 2 * positions)
    else:
        norms, room = _by_gradient, held + groups * rows * columns
    pieces = math.ceil(samples * room / CHUNK.get(terms[0].grads.device.type, DEVICE_CHUNK))
    size = math.ceil(samples / max(1, pieces))  # pieces of one size: kernels are prepared for a shape
    parts = [norms([term.part(start, start + size, dtype) for term in terms]) for start in range(0, samples, size)]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _by_gradient(terms: Sequence[Term]) -> Tensor:
    total = terms[0].gradients()
    for term in terms[1:]:
        total = total + term.gradients()
    return torch.linalg.vector_norm(total, dim=1)


def _by_gram(terms: Sequence[Term]) -> Tensor:
    lefts, rights = zip(*(term.factors() for term in terms), strict=True)
    left, right = torch.cat(lefts, dim=-1), torch.cat(rights, dim=-1)
    # rounding may leave a sum that cancels a little below zero
    return ((left.mT @ left) * (right.mT @ right)).flatten(1).sum(dim=1).clamp_min(0).sqrt()


def _by_word(terms: Sequence[Term]) -> Tensor:
    return EmbeddingTerm.norms([term for term in terms if isinstance(term, EmbeddingTerm)])
