"""The modes besides "exact": what they average, how well, and with which samples; and training with a loss scale."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from optim import CLARS, MeanNorms, PerSampleNorms

B = 12


def test_micro_batch_norms_are_those_of_whole_gradients(model, batch):
    weights = [model[0].weight, model[4].weight]
    halves = [torch.autograd.grad(batch.loss(model, rows), weights) for rows in (slice(0, 6), slice(6, B))]
    expected = [float((a.norm() + b.norm()) / 2) for a, b in zip(*halves, strict=True)]
    for reduction in ("mean", "sum"):
        norms = PerSampleNorms(model, "micro_batch", loss_reduction=reduction)
        for rows in (slice(0, 6), slice(6, B)):
            share = 0.5 if reduction == "mean" else 1.0
            (batch.loss(model, rows, reduction=reduction) * share).backward()
        found = norms.mean_norms()
        assert found.mode == "micro_batch"
        assert found.means.tolist() == pytest.approx(expected, rel=1e-12)
        assert found.standard_errors.isnan().all()
        assert found.means.tolist() != pytest.approx(batch.expected_means(model), rel=0.1)
        norms.remove()
        model.zero_grad()


def test_subset_is_unbiased_and_its_standard_error_honest(model, batch):
    expected = np.array(batch.expected_means(model))
    norms = PerSampleNorms(model, "subset", subset_size=4)
    draws, errors = [], []
    for _ in range(400):
        model.zero_grad()
        batch.loss(model, slice(0, 7)).mul(7 / B).backward()  # micro-batches: each gives its share
        batch.loss(model, slice(7, B)).mul(5 / B).backward()
        found = norms.mean_norms()
        draws.append(found.means.numpy())
        errors.append(found.standard_errors.numpy())
    values, errors = np.array(draws), np.array(errors)
    spread = values.std(axis=0, ddof=1)
    assert (spread > 0).all()
    assert (np.abs(values.mean(axis=0) - expected) < 4 * spread / np.sqrt(len(values))).all()
    # the mean of the reported variances is that of the draws: a variance over 400 draws is good to some 10%
    np.testing.assert_allclose((errors**2).mean(axis=0), spread**2, rtol=0.3)


def test_a_subset_of_all_is_exact(model, batch):
    norms = PerSampleNorms(model, "subset", subset_size=B)
    batch.loss(model).backward()
    assert norms.mean_norms().means.tolist() == pytest.approx(batch.expected_means(model), rel=1e-12)
    assert norms.latest.standard_errors.tolist() == [0.0, 0.0]


def test_relative_standard_error():
    found = MeanNorms(("a", "b", "c"), torch.tensor([2.0, 0.0, 4.0]), torch.tensor([1.0, 0.0, 1.0]), "subset")
    assert float(found.relative_standard_error()) == (1 / 2 + 0 + 1 / 4) / 3


def test_draws_follow_the_seed_and_the_state_and_leave_the_global_generator(model, batch):
    def draw(norms: PerSampleNorms) -> list[float]:
        model.zero_grad()
        batch.loss(model).backward()
        return norms.mean_norms().means.tolist()

    first = PerSampleNorms(model, "subset", subset_size=3, seed=1)
    before = torch.get_rng_state()
    start = draw(first)
    saved = first.state_dict()
    path = [draw(first) for _ in range(3)]
    assert torch.equal(before, torch.get_rng_state())
    assert len({tuple(values) for values in (start, *path)}) == 4  # afresh each time
    first.remove()
    second = PerSampleNorms(model, "subset", subset_size=3, seed=2)
    assert draw(second) != start
    second.load_state_dict(saved)
    assert [draw(second) for _ in range(3)] == path
    with pytest.raises(ValueError, match=r"'subset', but got \(mode='exact'\)"):
        PerSampleNorms(model).load_state_dict(saved)


def test_training_with_a_grad_scaler_that_skips_a_step(model, batch):
    model.float()
    inputs = batch.images.float()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    norms = PerSampleNorms(model, grad_scaler=scaler)
    optimizer = CLARS(model.parameters(), lr=0.1, sample_norms=norms)
    twin = copy.deepcopy(model)
    plain = CLARS(twin.parameters(), lr=0.1, sample_norms=PerSampleNorms(twin))
    for step in range(4):
        optimizer.zero_grad()
        bad = inputs * float("inf") if step == 1 else inputs
        scaler.scale(F.cross_entropy(model(bad), batch.labels)).backward()
        scaler.step(optimizer)
        scaler.update()
        if step != 1:
            plain.zero_grad()
            F.cross_entropy(twin(inputs), batch.labels).backward()
            plain.step()
    assert scaler.get_scale() == 512.0
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
