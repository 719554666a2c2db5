"""Each initialisation changes every weight of every model, by the seed alone, with the deviation its paper gives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from trainables.config import ConfigError
from trainables.initialization import INITIALIZATIONS, fans, initialize
from trainables.models import MODELS, build_model

DRAWN = [name for name in INITIALIZATIONS if name != "default"]
# fan-in and fan-out counted by hand
LAYERS: dict[str, tuple[nn.Module, int, int]] = {
    "convolution": (nn.Conv2d(24, 40, 3, stride=2), 216, 360),
    "oblong": (nn.Conv2d(20, 30, (5, 3)), 300, 450),
    "conv1d": (nn.Conv1d(50, 70, 5), 250, 350),
    "linear": (nn.Linear(200, 300), 200, 300),
    "grouped": (nn.Conv2d(32, 96, 3, groups=2), 144, 432),
    "depthwise": (nn.Conv2d(1000, 1000, 3, groups=1000), 9, 9),
    "depthwise, two each": (nn.Conv2d(500, 1000, 3, groups=500), 9, 18),
    "transposed": (nn.ConvTranspose2d(20, 40, 4, stride=2), 320, 640),
    "transposed, grouped": (nn.ConvTranspose2d(30, 60, 5, groups=3), 250, 500),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(name: str = "resnet8") -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, in_channels=3, classes=10, image_size=32)


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


@pytest.mark.parametrize("model_name", MODELS)
@pytest.mark.parametrize("name", DRAWN)
def test_changes_every_weight_and_nothing_of_the_norms(name: str, model_name: str) -> None:
    model = make(model_name)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    torch.manual_seed(0)
    changed = initialize(model, name, seeded(1))
    assert set(changed) == set(weights(model))
    assert {key for key, parameter in model.named_parameters() if parameter.ndim > 1} == set(changed)
    biases = {f"{key.removesuffix('weight')}bias" for key in changed}
    for key, tensor in model.state_dict().items():
        if key in changed:
            # two float32 draws may coincide here and there
            assert (tensor == before[key]).sum() <= 1e-5 * tensor.numel(), key
        elif key in biases:
            assert not tensor.any(), key
        else:
            assert torch.equal(tensor, before[key]), key


def test_default_changes_nothing() -> None:
    before, model = make(), make()
    assert initialize(model, "default", torch.Generator()) == []
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before.state_dict()[key]), key


@pytest.mark.parametrize("name", DRAWN)
def test_seed_decides_and_global_state_does_not(name: str) -> None:
    drawn = []
    for seed, noise in ((5, 0), (5, 1), (6, 1)):
        model = make()
        torch.manual_seed(noise)
        state = torch.get_rng_state()
        initialize(model, name, seeded(seed))
        assert torch.equal(torch.get_rng_state(), state)
        drawn.append(torch.cat([weight.detach().flatten() for weight in weights(model).values()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_layer_is_drawn_by_its_name_and_not_by_its_place() -> None:
    def parts() -> dict[str, nn.Module]:
        return {"stem": nn.Conv2d(3, 8, 3), "norm": nn.BatchNorm2d(8), "head": nn.Linear(8, 5)}

    forward, backward = nn.ModuleDict(parts()), nn.ModuleDict(reversed(parts().items()))
    alone = nn.ModuleDict({"head": nn.Linear(8, 5)})
    for model in (forward, backward, alone):
        initialize(model, "xavier_normal", seeded(0))
    assert torch.equal(forward["stem"].weight, backward["stem"].weight)
    assert torch.equal(forward["head"].weight, backward["head"].weight)
    assert torch.equal(forward["head"].weight, alone["head"].weight)
    assert initialize(model, "xavier_normal", seeded(0)) == ["head.weight"]


def test_layers_of_one_shape_differ() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    initialize(model, "xavier_normal", seeded(0))
    assert not torch.equal(model[0].weight, model[1].weight)


def test_a_lone_layer_in_another_precision_and_memory_format() -> None:
    plain = nn.Conv2d(4, 6, 3)
    other = nn.Conv2d(4, 6, 3).double().to(memory_format=torch.channels_last)
    for layer in (plain, other):
        assert initialize(layer, "kaiming_uniform", seeded(3)) == ["weight"]
    assert torch.equal(plain.weight.double(), other.weight)


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("kind", LAYERS)
def test_deviation_is_the_theoretical_one(kind: str, name: str) -> None:
    layer, fan_in, fan_out = LAYERS[kind]
    initialize(layer, name, seeded(0))
    weight = layer.weight.detach().double()
    expected = math.sqrt(2 / (fan_in + fan_out)) if name.startswith("xavier") else math.sqrt(2 / fan_in)
    samples = weight.numel()
    assert samples > 8000
    # standard error of a deviation: that of a normal is the larger one
    assert weight.std().item() == pytest.approx(expected, rel=4 / math.sqrt(2 * samples))
    assert abs(weight.mean().item()) < 4 * expected / math.sqrt(samples)
    furthest = weight.abs().max().item() / expected
    if name.endswith("uniform"):
        assert math.sqrt(3) * (1 - 10 / samples) < furthest <= math.sqrt(3) * (1 + 1e-6)
    else:
        assert 3 < furthest < 6


@pytest.mark.parametrize("kind", LAYERS)
def test_fans_are_those_of_the_gradient(kind: str) -> None:
    """An output sums fan-in inputs and an input reaches fan-out outputs, strides apart: autograd counts them."""
    layer, fan_in, fan_out = LAYERS[kind]
    assert fans(layer) == (fan_in, fan_out)
    if any(stride > 1 for stride in getattr(layer, "stride", ())):
        return
    initialize(layer, "kaiming_normal", seeded(0))
    torch.manual_seed(0)
    channels = layer.weight.shape[1] if kind == "linear" else layer.in_channels
    inputs = torch.randn(1, channels, *[12] * (layer.weight.ndim - 2), requires_grad=True)
    outputs = layer(inputs)
    middle = (0, 0, *[6 if kind.startswith("transposed") else 3] * (layer.weight.ndim - 2))
    (gradient,) = torch.autograd.grad(outputs[middle], inputs)
    assert int((gradient != 0).sum()) == fan_in
    touched = inputs.detach().clone()
    touched[(0, 0, *[6] * (layer.weight.ndim - 2))] += 1
    assert int((layer(touched) != outputs).sum()) == fan_out


def test_agrees_with_torch_where_nothing_is_grouped() -> None:
    for kind in ("convolution", "oblong", "conv1d", "linear"):
        layer, _, _ = LAYERS[kind]
        assert fans(layer) == nn.init._calculate_fan_in_and_fan_out(layer.weight)


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'xavier_normal'"):
        initialize(nn.Linear(1, 1), "xavier_norma", torch.Generator())


def test_a_computed_weight_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    before = model[0].weight.detach().clone()
    with pytest.raises(ConfigError, match="init xavier_normal cannot redraw the weight of 1, which is computed"):
        initialize(model, "xavier_normal", seeded(0))
    assert torch.equal(model[0].weight, before)
