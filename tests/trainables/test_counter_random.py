"""The counter-based generator against SplitMix64 in whole numbers of Python, and what uniform numbers must do."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from trainables.counter_random import uniforms

_WORD = (1 << 64) - 1


def reference(key: int, place: int, draw: int, draws: int) -> float:
    def mixed(word: int) -> int:
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
        return word ^ (word >> 31)

    golden = 0x9E3779B97F4A7C15
    start = mixed(key * golden & _WORD)
    return (mixed((start + (place * draws + draw + 1) * golden) & _WORD) >> 40) / 2**24


@pytest.mark.parametrize("key", [0, 1, 12345678901234567, (1 << 63) - 1])
def test_equals_whole_numbers(key: int) -> None:
    places = torch.tensor([0, 1, 7, 1_281_166, 2**40])
    found = uniforms(key, places, 3)
    assert found.dtype == torch.float32
    expected = [[reference(key, place, draw, 3) for draw in range(3)] for place in places.tolist()]
    assert found.tolist() == expected


def test_a_sample_does_not_depend_on_its_batch() -> None:
    everything = uniforms(5, torch.arange(100), 4)
    some = torch.tensor([93, 2, 50])
    assert torch.equal(uniforms(5, some, 4), everything[some])
    assert uniforms(5, some, 0).shape == (3, 0)


def test_uniform_and_independent() -> None:
    numbers = uniforms(9, torch.arange(20_000), 2)
    assert (numbers >= 0).all()
    assert (numbers < 1).all()
    assert stats.kstest(numbers.flatten().numpy(), "uniform").pvalue > 1e-3
    neighbours = torch.corrcoef(torch.stack([numbers[:-1, 0], numbers[1:, 0], numbers[:-1, 1]]))
    other = torch.corrcoef(torch.stack([numbers[:, 0], uniforms(10, torch.arange(20_000), 2)[:, 0]]))
    # deviation of a correlation of 20,000 pairs: 0.007
    assert (neighbours - torch.eye(3)).abs().max() < 0.03
    assert abs(float(other[0, 1])) < 0.03
