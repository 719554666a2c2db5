"""Each initialisation changes every weight, by the seed alone, with the deviation its paper gives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from trainables.config import ConfigError
from trainables.initialization import INITIALIZATIONS, initialize
from trainables.models import build_model

DRAWN = [name for name in INITIALIZATIONS if name != "default"]


def resnet8() -> nn.Module:
    torch.manual_seed(0)
    return build_model("resnet8", in_channels=3, classes=10, image_size=8)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}.weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    }


def test_names() -> None:
    assert set(INITIALIZATIONS) == {
        "default",
        *(f"{a}_{b}" for a in ("xavier", "kaiming") for b in ("uniform", "normal")),
    }


@pytest.mark.parametrize("name", DRAWN)
def test_changes_every_weight_and_nothing_of_the_norms(name: str) -> None:
    before, model = resnet8(), resnet8()
    changed = initialize(model, name, torch.Generator().manual_seed(1))
    assert len(changed) == 10
    assert set(changed) == set(weights(model))
    for key, tensor in model.state_dict().items():
        original = before.state_dict()[key]
        if key in changed:
            assert not (tensor == original).any(), key
        elif key == "head.bias":
            assert not tensor.any()
        else:
            assert torch.equal(tensor, original), key


def test_default_changes_nothing() -> None:
    before, model = resnet8(), resnet8()
    assert initialize(model, "default", torch.Generator()) == []
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before.state_dict()[key]), key


@pytest.mark.parametrize("name", DRAWN)
def test_seed_decides_and_global_state_does_not(name: str) -> None:
    drawn = []
    for seed, noise in ((5, 0), (5, 1), (6, 1)):
        model = resnet8()
        torch.manual_seed(noise)
        state = torch.get_rng_state()
        initialize(model, name, torch.Generator().manual_seed(seed))
        assert torch.equal(torch.get_rng_state(), state)
        drawn.append(torch.cat([weight.detach().flatten() for weight in weights(model).values()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("name", DRAWN)
def test_deviation_is_the_theoretical_one(name: str) -> None:
    model = nn.Sequential(
        nn.Conv2d(24, 40, 3), nn.Conv1d(50, 70, 5), nn.Linear(200, 300), nn.Conv2d(32, 96, 3, groups=2)
    )
    initialize(model, name, torch.Generator().manual_seed(0))
    for layer in model:
        weight = layer.weight.detach().double()
        field = weight[0, 0].numel()
        fan_in, fan_out = weight.shape[1] * field, weight.shape[0] * field
        expected = math.sqrt(2 / (fan_in + fan_out)) if name.startswith("xavier") else math.sqrt(2 / fan_in)
        samples = weight.numel()
        assert weight.std().item() == pytest.approx(expected, rel=4 / math.sqrt(2 * samples)), layer
        assert abs(weight.mean().item()) < 4 * expected / math.sqrt(samples), layer
        bound = weight.abs().max().item() / expected
        # a uniform ends at sqrt(3) deviations, a normal goes on
        assert (bound <= math.sqrt(3) + 1e-6) == name.endswith("uniform")


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'xavier_normal'"):
        initialize(nn.Linear(1, 1), "xavier_norma", torch.Generator())
