"""Random numbers as a function of a key, a sample and a draw: nothing to carry, nothing to resume.

What happens to a sample depends on (seed, epoch, view, sample) alone: not on the batch that it stands in, on workers,
on the device or on where a run was interrupted.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Steele, Lea, Flood: Fast splittable pseudorandom number generators (OOPSLA 2014), as signed 64-bit numbers.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)
_BITS = 24  # of a float32's fraction


def uniforms(key: int, places: Tensor, draws: int) -> Tensor:
    """Independent uniform numbers in [0, 1): (len(places), draws) float32 on the device of `places`.

    Args:
        key: of the stream, `0 <= key < 2**63`; each epoch and view has its own.
        places: (batch,) int64, the samples' places in their data set.
        draws: numbers a sample.
    """
    # Two rounds: places and draws count through one sequence, whose start the key scrambles.
    start = _mixed(torch.tensor(key, dtype=torch.int64, device=places.device) * _GOLDEN)
    counters = places[:, None] * draws + torch.arange(1, draws + 1, device=places.device)
    words = _mixed(start + counters * _GOLDEN)
    return _shifted(words, 64 - _BITS).to(torch.float32) * 2.0**-_BITS


def _mixed(words: Tensor) -> Tensor:
    """SplitMix64's finaliser."""
    words = (words ^ _shifted(words, 30)) * _FIRST
    words = (words ^ _shifted(words, 27)) * _SECOND
    return words ^ _shifted(words, 31)


def _shifted(words: Tensor, bits: int) -> Tensor:
    """Shift right with zeros, which int64 does with copies of the sign."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)
