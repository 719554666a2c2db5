"""Weight initialisations of every convolution and linear layer; norm layers keep theirs.

Xavier: Glorot and Bengio 2010, gain 1, variance 2 / (fan_in + fan_out). Kaiming: He et al., arXiv 1502.01852, eq. 10,
fan-in and gain sqrt(2), variance 2 / fan_in. A uniform draw ends at sqrt(3) deviations.

Fans are what the papers mean: how many inputs an output sums, and how many outputs an input reaches (strides and edges
apart). With g groups both are 1/g of the full ones, so a depthwise 3x3 convolution has 9 and 9. (torch's own helpers
leave the groups out of fan_out, and have the two the other way round in a transposed convolution.)

Biases of the layers drawn start at zero, as both papers have them. Other weights (embeddings, the packed projections of
`nn.MultiheadAttention`, bare parameters) stay as constructed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.config import ConfigError, require_known
from trainables.isolation import generator as stream


@dataclass(frozen=True)
class Initialization:
    """A distribution with mean zero."""

    variance: Callable[[int, int], float]
    """Of (fan_in, fan_out)."""
    uniform: bool
    """Otherwise normal."""

    def draw(self, layer: nn.modules.conv._ConvNd | nn.Linear, generator: torch.Generator) -> Tensor:
        """A weight for `layer`, float32 on the CPU."""
        deviation = math.sqrt(self.variance(*fans(layer)))
        weight = torch.empty(layer.weight.shape, dtype=torch.float32)
        if self.uniform:
            bound = math.sqrt(3) * deviation
            return weight.uniform_(-bound, bound, generator=generator)
        return weight.normal_(0.0, deviation, generator=generator)


def _xavier(fan_in: int, fan_out: int) -> float:
    return 2 / (fan_in + fan_out)


def _kaiming(fan_in: int, _: int) -> float:
    return 2 / fan_in


INITIALIZATIONS: dict[str, Initialization | None] = {
    "default": None,
    "xavier_uniform": Initialization(_xavier, uniform=True),
    "xavier_normal": Initialization(_xavier, uniform=False),
    "kaiming_uniform": Initialization(_kaiming, uniform=True),
    "kaiming_normal": Initialization(_kaiming, uniform=False),
}

# the private base that torch's convolutions, transposed ones too, have in common
_WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)


def fans(layer: nn.modules.conv._ConvNd | nn.Linear) -> tuple[int, int]:
    """Inputs that one output sums, and outputs that one input reaches."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    field = math.prod(layer.kernel_size)
    return layer.in_channels // layer.groups * field, layer.out_channels // layer.groups * field


@torch.no_grad()
def initialize(model: nn.Module, name: str, generator: torch.Generator) -> list[str]:
    """Redraw the weights in place and return the names of the tensors changed.

    One number is drawn from `generator`; each layer's weight comes from a stream of that number and the layer's name,
    so that it is the same whatever else the model holds, in whichever order.

    `default` leaves what the layers' constructors drew.

    Raises:
        ConfigError: an unknown name, or a weight that is computed from others (weight or spectral norm).
    """
    require_known("init", name, tuple(INITIALIZATIONS))
    initialization = INITIALIZATIONS[name]
    if initialization is None:
        return []
    layers = {path: module for path, module in model.named_modules() if isinstance(module, _WEIGHTED)}
    for path, layer in layers.items():
        if "weight" not in layer._parameters:
            raise ConfigError(
                f"init {name} cannot redraw the weight of {path or 'the model'}, which is computed from other "
                "tensors: take init default, or a layer without parametrisation"
            )
    key = int(torch.randint(2**63 - 1, (), generator=generator))
    for path, layer in layers.items():
        layer.weight.copy_(initialization.draw(layer, stream(key, f"weight of {path}")))
        if layer.bias is not None:
            layer.bias.zero_()
    return [f"{path}.weight" if path else "weight" for path in layers]
