"""Cutting what fits into memory: shapes, an untouched test split, hashes that notice every change."""

from __future__ import annotations

import numpy as np
import torch

from trainables.config import DataConfig
from trainables.data.labelled import LabelledImages, content_hash, cut, cut_training_set, digest_of
from trainables.data.stratify import SplitIndices, stratified_indices


def _images(items: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, (items, 2, 4, 5), dtype=np.uint8)


def test_cut_normalises_by_the_training_images() -> None:
    images, labels = _images(50), np.arange(50) % 3
    splits = cut(DataConfig("any"), LabelledImages(images, labels), classes=3)
    assert splits.image_shape == (2, 4, 5)
    indices = stratified_indices(labels, validation_fraction=0.2, test_fraction=0.2, seed=0)
    reference = images[indices.train].astype(np.float64)
    mean, deviation = (
        reference.mean(axis=(0, 2, 3), keepdims=True),
        reference.std(axis=(0, 2, 3), keepdims=True),
    )
    for split, places in ((splits.train, indices.train), (splits.validation, indices.validation)):
        expected = (images[places] - mean) / deviation
        ((raw, truth),) = split.batches([torch.arange(len(split))])
        np.testing.assert_allclose(splits.normalisation(raw).numpy(), expected, atol=1e-5)
        assert truth.tolist() == labels[places].tolist() == split.labels.tolist()


def test_a_shipped_test_split_stays_as_it_is() -> None:
    train = LabelledImages(_images(40), np.arange(40) % 4)
    test = LabelledImages(_images(9, seed=1), np.arange(9) % 4)
    one, other = (cut_training_set(DataConfig("any", split_seed=seed), train, test, classes=4) for seed in (0, 1))
    for splits in (one, other):
        assert np.array_equal(splits.test.images, test.images)
        assert np.array_equal(splits.test.labels, test.labels)
        assert (len(splits.train), len(splits.validation)) == (32, 8)
    assert not torch.equal(one.validation.images, other.validation.images)
    whole = np.concatenate([one.train.images, one.validation.images]).reshape(40, -1)
    assert sorted(whole.tolist()) == sorted(train.images.reshape(40, -1).tolist())
    changed = LabelledImages(_images(9, seed=2), test.labels)
    assert one.content_hash != cut_training_set(DataConfig("any"), train, changed, classes=4).content_hash
    assert one.content_hash != other.content_hash


def test_batches_are_copies_in_the_order_asked_for() -> None:
    splits = cut(DataConfig("any"), LabelledImages(_images(20), np.arange(20) % 2), classes=2)
    chunks = [torch.tensor([2, 0]), torch.tensor([5]), torch.tensor([], dtype=torch.int64)]
    taken = list(splits.train.batches(chunks))
    assert [len(images) for images, _ in taken] == [2, 1, 0]
    assert taken[0][0][1].equal(splits.train.images[0])
    assert taken[0][1][0] == splits.train.labels[2]
    taken[0][0].zero_()
    assert splits.train.images[2].any()


def test_hash_notices_every_change() -> None:
    images = np.zeros((4, 1, 2, 2), np.uint8)
    labels = np.array([0, 1, 0, 1])
    indices = SplitIndices(np.array([0, 1]), np.array([2]), np.array([3]))
    changed = images.copy()
    changed[3, 0, 1, 1] = 1
    hashes = [
        content_hash([digest_of(*arrays)], split)
        for arrays, split in (
            ((images, labels), indices),
            ((changed, labels), indices),
            ((images.reshape(4, 2, 1, 2), labels), indices),
            ((images, 1 - labels), indices),
            ((images, labels), SplitIndices(indices.train, indices.test, indices.validation)),
            ((images, labels), SplitIndices(np.array([0]), np.array([1, 2]), np.array([3]))),
        )
    ]
    assert len(set(hashes)) == len(hashes)
    assert content_hash([digest_of(images.copy(), labels.copy())], indices) == hashes[0]


def test_what_a_process_keeps_cannot_be_spoiled() -> None:
    raw = LabelledImages(_images(20), np.arange(20) % 2)
    splits = cut(DataConfig("any"), raw, classes=2)
    splits.train.images.zero_()
    assert raw.images.any()
    assert not raw.images.flags.writeable
