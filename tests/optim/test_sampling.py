"""Draws of samples, and what some tell about all: held against every subset there is."""

from itertools import combinations

import numpy as np
import pytest
import torch

from optim.sample_norms.sampling import Sampler, estimated_total

NORMS = torch.tensor([0.5, 3.0, 1.0, 7.0, 2.5, 0.0], dtype=torch.float64)


@pytest.mark.parametrize("chosen", [2, 3, 5])
def test_estimates_average_to_the_truth_over_all_subsets(chosen):
    subsets = [NORMS[list(rows)] for rows in combinations(range(len(NORMS)), chosen)]
    totals, variances = np.array([[float(part) for part in estimated_total(some, len(NORMS))] for some in subsets]).T
    assert totals.mean() == pytest.approx(float(NORMS.sum()), rel=1e-12)
    assert variances.mean() == pytest.approx(totals.var(), rel=1e-12)  # of the estimate, over everything to draw


def test_all_of_them_are_no_estimate():
    total, variance = estimated_total(NORMS, len(NORMS))
    assert (float(total), float(variance)) == (14.0, 0.0)


def test_every_place_is_drawn_as_often_and_none_twice():
    sampler, counts, draws = Sampler(4, seed=0), torch.zeros(10), 3000
    for _ in range(draws):
        places = sampler.draw(10, rank=0)
        assert len(set(places.tolist())) == 4
        counts[places] += 1
    # binomial with p = 0.4: five deviations
    assert (counts / draws - 0.4).abs().max() < 5 * (0.4 * 0.6 / draws) ** 0.5


def test_a_batch_smaller_than_the_subset_is_taken_whole():
    assert sorted(Sampler(4, seed=0).draw(3, rank=0).tolist()) == [0, 1, 2]


def test_workers_draw_apart_from_one_state():
    one, other = Sampler(4, seed=5), Sampler(4, seed=5)
    shared = 0
    for _ in range(1000):
        first, second = one.draw(10, rank=0), other.draw(10, rank=1)
        shared += len(set(first.tolist()) & set(second.tolist()))
        assert torch.equal(one.generator.get_state(), other.generator.get_state())
    # hypergeometric: 4 * 4 / 10 on average, variance 0.64
    assert shared / 1000 == pytest.approx(1.6, abs=5 * (0.64 / 1000) ** 0.5)
