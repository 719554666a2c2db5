"""What a trial is built from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from trainables.config import ConfigError, TrialConfig
from trainables.session import build_session

Make = Callable[..., TrialConfig]


def weights(config: TrialConfig) -> torch.Tensor:
    session = build_session(config)
    return torch.cat([parameter.detach().flatten() for parameter in session.model.parameters()])


def test_steps(make_config: Make) -> None:
    session = build_session(make_config(batch_size=50))
    assert (session.steps_per_epoch, session.total_steps) == (120 // 50, 8)


@pytest.mark.parametrize(("batch", "micro", "expected"), [(40, 40, 1), (40, 20, 2), (40, 39, 2), (40, 7, 6)])
def test_micro_batches(make_config: Make, batch: int, micro: int, expected: int) -> None:
    assert build_session(make_config(batch_size=batch, micro_batch_size=micro)).micro_batches == expected


def test_batch_larger_than_the_training_set_is_refused(make_config: Make) -> None:
    with pytest.raises(ConfigError, match=r"batch_size <= training items .*\(batch_size=121, training items=120"):
        build_session(make_config(batch_size=121))


def test_weights_follow_seed_and_init_alone(make_config: Make) -> None:
    reference = weights(make_config("sgd_warmup"))
    torch.rand(5)
    assert torch.equal(weights(make_config("tvlars")), reference)
    assert not torch.equal(weights(make_config(seed=4)), reference)
    assert not torch.equal(weights(make_config(init="xavier_uniform")), reference)


def test_weights_are_channels_last(make_config: Make) -> None:
    model = build_session(make_config()).model
    for name, parameter in model.named_parameters():
        if parameter.ndim == 4:
            assert parameter.is_contiguous(memory_format=torch.channels_last), name


def test_evaluation_sees_the_middle_of_larger_images(make_config: Make) -> None:
    session = build_session(make_config())
    smaller = replace(session, splits=replace(session.splits, image_shape=(1, 6, 6)))
    images, _ = next(iter(session.splits.train.batches([torch.arange(5)])))
    assert images.shape == (5, 1, 8, 8)
    assert torch.equal(smaller.clean(images), session.splits.normalisation(images[..., 1:7, 1:7]))


def test_bf16_is_a_matter_of_the_forward_pass(make_config: Make) -> None:
    session = build_session(make_config(precision="bf16"))
    images = session.clean(next(iter(session.splits.train.batches([torch.arange(4)])))[0])
    with session.autocast():
        assert session.model(images).dtype == torch.bfloat16
    assert all(parameter.dtype == torch.float32 for parameter in session.model.parameters())
    with build_session(make_config()).autocast():
        assert session.model(images).dtype == torch.float32
