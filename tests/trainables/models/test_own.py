"""Models by name: the table's, and the user's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from trainables.config import ConfigError
from trainables.models import build_backbone, build_model

Write = Callable[[str], str]
GOOD = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self, in_channels, classes, image_size):
        super().__init__(
            nn.Flatten(), nn.BatchNorm1d(in_channels * image_size**2), nn.Dropout(), nn.LazyLinear(classes)
        )
        self[1].eval()

def made(in_channels, classes, image_size):
    return Net(in_channels, classes, image_size)
"""


@pytest.mark.parametrize("attribute", ["made", "Net"])
def test_a_factory_and_a_class(attribute: str, write_module: Write) -> None:
    name = f"{write_module(GOOD)}:{attribute}"
    model = build_model(name, in_channels=2, classes=5, image_size=4)
    assert model(torch.ones(3, 2, 4, 4)).shape == (3, 5)


def test_the_look_at_a_model_leaves_no_trace(write_module: Write) -> None:
    torch.manual_seed(0)
    model = build_model(f"{write_module(GOOD)}:made", in_channels=2, classes=5, image_size=4)
    after = torch.rand(3)
    assert [module.training for module in model] == [True, False, True, True]
    assert int(model[1].num_batches_tracked) == 0
    assert not model[1].running_mean.any()
    torch.manual_seed(0)  # the factory itself draws nothing: its layer waits for the first images
    assert torch.equal(after, torch.rand(3))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def f(): ...", r"called with \(in_channels=3, classes=5, image_size=8\) raised TypeError: f\(\) takes 0 pos"),
        ("def f(*shape): raise KeyError('x')", r"raised KeyError: 'x'$"),
        ("def f(*shape): raise ValueError('first\\nsecond')", r"raised ValueError: first$"),
        ("def f(*shape): return lambda images: images", "must return a torch.nn.Module, but returned function"),
        ("def f(*shape): return nn.Flatten()", r"logits of shape \(2, 5\), but returned \(2, 192\)$"),
        ("def f(*shape): return nn.Linear(3, 5)", r"fails on images of shape \(2, 3, 8, 8\) with RuntimeError: .*mat1"),
        ("def f(*shape): return Two()", "must return one tensor, but returned tuple"),
    ],
)
def test_what_is_wrong_with_a_model(source: str, message: str, write_module: Write) -> None:
    two = "class Two(nn.Module):\n    def forward(self, images):\n        return images, images\n"
    name = f"{write_module(f'from torch import nn{chr(10)}{two}{source}')}:f"
    with pytest.raises(ConfigError, match=message) as caught:
        build_model(name, in_channels=3, classes=5, image_size=8)
    assert str(caught.value).startswith(f"model '{name}'")
    assert "\n" not in str(caught.value)


def test_a_refusal_of_the_factory_stays_as_it_is(write_module: Write) -> None:
    source = "from trainables.config import ConfigError\ndef f(*shape): raise ConfigError('only 32 pixels')"
    with pytest.raises(ConfigError, match=r"^only 32 pixels$"):
        build_model(f"{write_module(source)}:f", in_channels=3, classes=5, image_size=8)


@pytest.mark.parametrize("build", [build_model, build_backbone])
def test_unknown_name(build: Callable[..., object]) -> None:
    shape = {"in_channels": 1, "image_size": 8, **({"classes": 2} if build is build_model else {})}
    with pytest.raises(ConfigError, match=r"efficientnet_b0, module:factory, but .*; did you mean 'resnet8'\?$"):
        build("resnet9", **shape)
    with pytest.raises(ConfigError, match="Python finds no module 'nosuch'"):
        build("nosuch:net", **shape)
