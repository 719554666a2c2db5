"""Every model has the published number of parameters, and at 224 pixels is the published one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torchvision
from torch import Tensor, nn

from trainables.config import ConfigError
from trainables.models import MODELS, build_model
from trainables.models.vision import VISION_MODELS

# parameters with 1,000 classes at 224 pixels, as torchvision's pages have them; and, worked out from them, with
# another classifier and a 3x3 stem, 10 classes at 32 pixels
PUBLISHED = {
    "resnet18": (11_689_512, 11_173_962),
    "resnet34": (21_797_672, 21_282_122),
    "resnet50": (25_557_032, 23_520_842),
    "densenet121": (7_978_856, 6_956_426),
    "mobilenet_v2": (3_504_872, 3_504_872 - 990 * 1281),
    "efficientnet_b0": (5_288_548, 5_288_548 - 990 * 1281),
}
# by hand: stem 432 + 32; blocks 4672, 14528, 57728; head 650. ResNet-20 is 0.27M in the paper's table 6
SMALL = {"resnet8": 78_042, "resnet20": 269_722}
VISION = [model.name for model in VISION_MODELS]


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {key: tensor.shape for key, tensor in model.state_dict().items()}


@contextmanager
def feature_maps(model: nn.Module) -> Iterator[list[tuple[int, int]]]:
    """Height and width of what each convolution returns, in the order of calls."""
    sizes: list[tuple[int, int]] = []

    def see(_: nn.Module, __: object, output: Tensor) -> None:
        sizes.append((output.shape[2], output.shape[3]))

    handles = [layer.register_forward_hook(see) for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    yield sizes
    for handle in handles:
        handle.remove()


def test_tables_are_complete() -> None:
    assert set(MODELS) == {*PUBLISHED, *SMALL}
    assert set(VISION) == set(PUBLISHED)


@pytest.mark.parametrize("name", VISION)
def test_published_counts(name: str) -> None:
    with torch.device("meta"):
        for size in (224, 128):
            model = build_model(name, in_channels=3, classes=1000, image_size=size)
            assert parameters(model) == PUBLISHED[name][0]
        for size in (32, 64):
            model = build_model(name, in_channels=3, classes=10, image_size=size)
            assert parameters(model) == PUBLISHED[name][1]


@pytest.mark.parametrize("name", SMALL)
def test_small_counts(name: str) -> None:
    assert parameters(build_model(name, in_channels=3, classes=10, image_size=32)) == SMALL[name]


def test_channels_and_classes_count() -> None:
    grey = build_model("resnet8", in_channels=1, classes=10, image_size=8)
    assert parameters(grey) == 77_754
    assert sum(isinstance(module, nn.BatchNorm2d) for module in grey.modules()) == 9


@pytest.mark.parametrize("name", VISION)
def test_large_images_get_the_published_model(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, in_channels=3, classes=7, image_size=224)
    torch.manual_seed(0)
    published = getattr(torchvision.models, name)(num_classes=7)
    assert list(shapes(model)) == list(shapes(published))
    for key, tensor in published.state_dict().items():
        assert torch.equal(model.state_dict()[key], tensor), key
    assert repr(model) == repr(published)  # strides and poolings, which no tensor shows


@pytest.mark.parametrize("name", VISION)
def test_stem_of_another_channel_count_is_drawn_as_the_published_one(name: str) -> None:
    """torchvision's draw has deviation sqrt(2 / fan); DenseNet's is fan-in, the others' fan-out."""
    torch.manual_seed(0)
    published = getattr(torchvision.models, name)(num_classes=2)
    model = build_model(name, in_channels=9, classes=2, image_size=224)
    ours, theirs = next(model.parameters()), next(published.parameters())
    assert ours.shape == (theirs.shape[0], 9, *theirs.shape[2:])
    expected = theirs.std() * (3**-0.5 if name == "densenet121" else 1)
    assert ours.std().item() == pytest.approx(expected.item(), rel=0.1)
    rest = list(shapes(model).values())[1:]
    assert rest == list(shapes(published).values())[1:]


# height and width of the last feature map at each image size: the stem decides
LAST_MAP = {8: 1, 28: 4, 32: 4, 48: 6, 64: 4, 96: 6, 128: 4, 224: 7}
LAST_MAP_DENSENET = {**LAST_MAP, 28: 3}  # its poolings round down


@pytest.mark.parametrize("size", LAST_MAP)
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v2", "efficientnet_b0"])
def test_small_images_keep_a_feature_map(name: str, size: int) -> None:
    model = build_model(name, in_channels=1, classes=3, image_size=size).eval()
    with torch.no_grad(), feature_maps(model) as sizes:
        model(torch.zeros(1, 1, size, size))
    edge = (LAST_MAP_DENSENET if name == "densenet121" else LAST_MAP)[size]
    assert sizes[-1] == (edge, edge)
    assert sizes[0][0] == (size if size <= 96 else size // 2)


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"densenet121 needs images of 8 pixels or more, but got \(image_size=7\)"):
        build_model("densenet121", in_channels=1, classes=2, image_size=7)


def test_resnet20_shortcuts_are_the_padded_ones() -> None:
    model = build_model("resnet20", in_channels=1, classes=2, image_size=8)
    shortcut = model.get_submodule("blocks.3.shortcut")
    images = torch.randn(2, 16, 5, 5)
    result = shortcut(images)
    assert result.shape == (2, 32, 3, 3)
    assert torch.equal(result[:, :16], images[:, :, 0:5:2, 0:5:2])
    assert not result[:, 16:].any()
    assert sum(isinstance(layer, nn.Conv2d) for layer in model.modules()) == 19  # and one linear layer
