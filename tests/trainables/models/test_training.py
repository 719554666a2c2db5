"""Every model, at every image size and precision: a step that reaches every parameter, with norms for CLARS."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from optim.registry import build_arm
from trainables.models import MODELS, build_model


@pytest.mark.parametrize(("channels", "classes", "size"), [(1, 10, 8), (3, 7, 32), (3, 200, 64), (3, 5, 224)])
@pytest.mark.parametrize("name", MODELS)
def test_forward_shape(name: str, channels: int, classes: int, size: int) -> None:
    model = build_model(name, in_channels=channels, classes=classes, image_size=size)
    images = torch.randn(2, channels, size, size)
    with torch.no_grad():
        logits = model(images)
    assert logits.shape == (2, classes)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", MODELS)
def test_memory_format_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, in_channels=3, classes=4, image_size=16).eval()
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        plain = model(images)
        model = model.to(memory_format=torch.channels_last)
        last = model(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["float32", "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_a_step_reaches_every_parameter(name: str, precision: torch.dtype) -> None:
    torch.manual_seed(0)
    model = build_model(name, in_channels=3, classes=3, image_size=16)
    images, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
        logits = model(images)
    assert logits.dtype == precision
    F.cross_entropy(logits.float(), labels).backward()
    optimizer.step()
    for key, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        assert parameter.isfinite().all(), key
        assert not torch.equal(parameter, before[key]), key


@pytest.mark.parametrize("name", MODELS)
def test_clars_finds_the_norms_of_every_layer(name: str) -> None:
    """A mean of norms is no smaller than the norm of the mean, which autograd gives."""
    torch.manual_seed(0)
    model = build_model(name, in_channels=3, classes=3, image_size=32)
    weights = {key: weight for key, weight in model.named_parameters() if weight.ndim > 1}
    arm = build_arm(
        "clars",
        model.named_parameters(),
        lr=1.0,
        steps_per_epoch=1,
        total_steps=2,
        model=model,
        hyperparameters={"sample_norms": "exact"},
    )
    F.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 2, 0])).backward()
    gradients = {key: weight.grad.norm().item() for key, weight in weights.items() if weight.grad is not None}
    before = {key: weight.detach().clone() for key, weight in weights.items()}
    arm.prepare_step(0)
    arm.optimizer.step()
    assert arm.sample_norms is not None
    assert arm.sample_norms.latest is not None
    found = arm.sample_norms.latest.to_dict()
    arm.close()
    assert set(found) == set(gradients) == set(weights)
    for key, (mean, _) in found.items():
        assert mean >= gradients[key] * (1 - 1e-4) > 0, key
        assert not torch.equal(weights[key], before[key]), key


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_b0"])
def test_dropout_draws_from_the_global_generator(name: str) -> None:
    """The loop seeds it for every epoch, so that a resumed run drops the same."""
    torch.manual_seed(0)
    model = build_model(name, in_channels=1, classes=3, image_size=16)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    images = torch.randn(4, 1, 16, 16)
    results = []
    with torch.no_grad():
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            results.append(model(images))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
