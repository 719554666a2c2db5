"""Models: size and shape."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.config import ConfigError
from trainables.models import MODELS, build_model


def test_resnet8_size() -> None:
    # by hand: stem 144 + 32; blocks 4672, 14528, 57728; head 650
    model = build_model("resnet8", in_channels=1, classes=10, image_size=8)
    assert sum(parameter.numel() for parameter in model.parameters()) == 77_754
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == 9


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("channels", "classes", "size"), [(1, 10, 8), (3, 7, 32)])
def test_forward_shape(name: str, channels: int, classes: int, size: int) -> None:
    model = build_model(name, in_channels=channels, classes=classes, image_size=size)
    assert model(torch.randn(5, channels, size, size)).shape == (5, classes)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_learns(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, in_channels=1, classes=3, image_size=8)
    model(torch.randn(6, 1, 8, 8)).square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'resnet8'"):
        build_model("resnet9", in_channels=1, classes=2, image_size=8)
