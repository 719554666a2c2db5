"""What every augmentation by name must do, however it is made."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trainables import augment
from trainables.augment import AUGMENTATIONS, Augmentation, build_augmentation
from trainables.config import ConfigError
from trainables.counter_random import uniforms


def built(name: str, size: int) -> tuple[Augmentation, int]:
    """With the channels that it takes."""
    channels = AUGMENTATIONS[name](size).channels or 3
    return build_augmentation(name, image_shape=(channels, size, size)), channels


def test_none_keeps() -> None:
    images = torch.randint(0, 256, (3, 1, 2, 2), dtype=torch.uint8)
    (view,) = build_augmentation("none", image_shape=(1, 2, 2)).views
    assert torch.equal(view(images, torch.empty(3, 0), 255.0), images)


@pytest.mark.parametrize(("raw", "size"), [(8, 8), (40, 32), (96, 80)])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_keeps_input_and_gives_the_size_that_the_model_sees(
    pictures: Callable[..., Tensor], name: str, raw: int, size: int
) -> None:
    augmentation, channels = built(name, size)
    assert augmentation.name == name
    images = pictures(7, channels, raw, raw)
    before = images.clone()
    for view in augmentation.views:
        found = view(images, uniforms(1, torch.arange(7), augmentation.draws), 255.0)
        assert found.shape == (7, channels, size, size)
        assert found.dtype in (torch.uint8, torch.float32)
        assert found.min() >= 0
        assert found.dtype == torch.uint8 or found.max() <= 1 + 1e-6
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", sorted(set(AUGMENTATIONS) - {"none"}))
def test_each_sample_has_its_own_fate_whatever_its_batch(
    pictures: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Copies of one image come out different, and each the same alone, in another order, in small blocks."""
    augmentation, channels = built(name, 16)
    images = pictures(1, channels, 16, 16).expand(64, -1, -1, -1)
    places = torch.randperm(1000, generator=torch.Generator().manual_seed(1))[:64]
    for number, view in enumerate(augmentation.views):
        drawn = uniforms(number, places, augmentation.draws)
        found = view(images, drawn, 255.0)
        assert len(found.flatten(1).unique(dim=0)) >= (60 if found.is_floating_point() else 15)
        alone = torch.cat(
            [view(images[:1], uniforms(number, place[None], augmentation.draws), 255.0) for place in places]
        )
        torch.testing.assert_close(alone, found, atol=1e-5, rtol=0)
        order = torch.randperm(64)
        torch.testing.assert_close(view(images, drawn[order], 255.0), found[order], atol=1e-5, rtol=0)
        with monkeypatch.context() as patch:
            patch.setattr(augment, "_CPU_BLOCK", 5 * images[0].numel())
            torch.testing.assert_close(view(images, drawn, 255.0), found, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["barlow_twins", "barlow_twins_grey"])
def test_views_differ(pictures: Callable[..., Tensor], name: str) -> None:
    """With the same numbers: the second is not the first one's recipe."""
    augmentation, channels = built(name, 16)
    images, drawn = pictures(64, channels, 16, 16), uniforms(1, torch.arange(64), augmentation.draws)
    first, second = (view(images, drawn, 255.0) for view in augmentation.views)
    assert not torch.allclose(first, second, atol=0.01)


@pytest.mark.parametrize("size", [8, 96])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_nothing_waits_for_the_device_or_lies_elsewhere(name: str, size: int) -> None:
    """On the meta device a tensor of another device, and a look at a value, both raise."""
    augmentation, channels = built(name, size)
    images = torch.empty(5, channels, size, size, dtype=torch.uint8, device="meta")
    for view in augmentation.views:
        found = view(images, torch.empty(5, augmentation.draws, device="meta"), 255.0)
        assert found.shape == images.shape


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_gpu_gives_the_same_images(pictures: Callable[..., Tensor], name: str) -> None:
    augmentation, channels = built(name, 32)
    images, drawn = pictures(64, channels, 32, 32), uniforms(1, torch.arange(64), augmentation.draws)
    for view in augmentation.views:
        found = view(images.cuda(), drawn.cuda(), 255.0).cpu()
        torch.testing.assert_close(found, view(images, drawn, 255.0), atol=1e-4, rtol=0)


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'shift'"):
        build_augmentation("shifts", image_shape=(1, 8, 8))


def test_channels_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"images of 3 channel\(s\), but these have 1; choose .* barlow_twins_grey$"):
        build_augmentation("barlow_twins", image_shape=(1, 8, 8))
    with pytest.raises(ConfigError, match=r"these have 3; choose one of .*, barlow_twins$"):
        build_augmentation("barlow_twins_grey", image_shape=(3, 8, 8))
