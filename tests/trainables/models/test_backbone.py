"""Backbones: the model's own features, without the classifier, and a refusal where there are none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trainables.config import ConfigError
from trainables.models import MODELS, build_backbone, build_model

Write = Callable[[str], str]
WIDTHS = {
    "resnet8": 64,
    "resnet20": 64,
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "densenet121": 1024,
    "mobilenet_v2": 1280,
    "efficientnet_b0": 1280,
}
NETS = """
import torch
from torch import nn

class Base(nn.Module):
    def __init__(self, in_channels, classes, image_size):
        super().__init__()
        self.head = nn.Linear(in_channels, classes)  # registered first
        self.hidden = nn.Linear(in_channels, in_channels)
    def features(self, images):
        return self.hidden(images.mean((2, 3)))

class Plain(Base):
    def forward(self, images):
        return self.head(self.features(images))

class Softmax(Base):
    def forward(self, images):
        return self.head(self.features(images)).softmax(1)

class Convolutional(nn.Sequential):
    def __init__(self, in_channels, classes, image_size):
        super().__init__(nn.Conv2d(in_channels, classes, image_size), nn.Flatten())

class Width(Base):
    def forward(self, images):
        return self.head(self.features(images)[:, : self.head.in_features])

class Reused(Base):
    def __init__(self, in_channels, classes, image_size):
        super().__init__(in_channels, classes, image_size)
        self.hidden, self.head = self.head, nn.Linear(classes, classes)
        self.shared = self.hidden
    def forward(self, images):
        return self.head(self.hidden(images.mean((2, 3))))

class Itself(nn.Linear):
    def __init__(self, in_channels, classes, image_size):
        super().__init__(in_channels, classes)
    def forward(self, images):
        return super().forward(images.mean((2, 3)))

def two_dropouts(in_channels, classes, image_size):
    flat = in_channels * image_size**2
    return nn.Sequential(nn.Flatten(), nn.Dropout(), nn.ReLU(), nn.Dropout(), nn.Dropout(), nn.Linear(flat, classes))
"""


@pytest.mark.parametrize("name", MODELS)
def test_width_and_features(name: str) -> None:
    """The classifier on top of the features gives what the whole model gives: the reference sees its input."""
    torch.manual_seed(0)
    model = build_model(name, in_channels=3, classes=2, image_size=32).eval()
    torch.manual_seed(0)
    backbone, width = build_backbone(name, in_channels=3, image_size=32)
    assert backbone.training
    classifier = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        logits = model(images)
        features = backbone.eval()(images)
    assert features.shape == (2, width)
    assert width == WIDTHS[name]
    torch.testing.assert_close(classifier(features), logits)
    left_out = {key for key in model.state_dict() if key not in backbone.state_dict()}
    assert {key.rsplit(".", 1)[1] for key in left_out} == {"weight", "bias"}
    assert len(left_out) == 2


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_b0"])
def test_dropout_of_the_classifier_goes_with_it(name: str) -> None:
    backbone, _ = build_backbone(name, in_channels=1, image_size=16)
    assert not any(isinstance(module, nn.Dropout) for module in backbone.modules())


def test_other_dropout_stays(write_module: Write) -> None:
    backbone, width = build_backbone(f"{write_module(NETS)}:two_dropouts", in_channels=1, image_size=3)
    assert width == 9
    assert [type(module) for module in backbone] == [nn.Flatten, nn.Dropout, nn.ReLU, *[nn.Identity] * 3]


@pytest.mark.parametrize(("attribute", "width"), [("Plain", 3), ("Reused", 2)])
def test_own_models(attribute: str, width: int, write_module: Write) -> None:
    """The layer that comes last is meant, not the one registered last."""
    backbone, found = build_backbone(f"{write_module(NETS)}:{attribute}", in_channels=3, image_size=8)
    images = torch.randn(5, 3, 8, 8)
    features: Tensor = backbone(images)
    assert found == width
    hidden = backbone.get_submodule("hidden")
    torch.testing.assert_close(features, hidden(images.mean((2, 3))))


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("Softmax", r"has no features to take: what it returns must come straight from an nn\.Linear inside it"),
        ("Convolutional", "has no features to take"),
        ("Itself", "has no features to take"),
        ("Width", r"without its last layer, head, fails on images .* 'Identity' object has no attribute 'in_features'"),
    ],
)
def test_models_without_features_are_refused(attribute: str, message: str, write_module: Write) -> None:
    name = f"{write_module(NETS)}:{attribute}"
    with pytest.raises(ConfigError, match=message) as caught:
        build_backbone(name, in_channels=3, image_size=8)
    assert str(caught.value).startswith(f"model '{name}'")
