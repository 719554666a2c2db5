"""Weight initialisations of every convolution and linear layer; norm layers keep theirs.

Xavier: Glorot and Bengio 2010, gain 1; Kaiming: He et al., arXiv 1502.01852, fan-in, gain sqrt(2). Biases
start at zero.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from trainables.config import require_known

Initializer = Callable[..., Tensor]

INITIALIZATIONS: dict[str, Initializer | None] = {
    "default": None,
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    "kaiming_uniform": partial(nn.init.kaiming_uniform_, nonlinearity="relu"),
    "kaiming_normal": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
}

# the private base that torch's convolutions, transposed ones too, have in common
_WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)


def initialize(model: nn.Module, name: str, generator: torch.Generator) -> list[str]:
    """Redraw the weights in place from `generator` (CPU) and return the names of the tensors changed.

    `default` leaves what the layers' constructors drew. Raises ConfigError on an unknown name.
    """
    require_known("init", name, tuple(INITIALIZATIONS))
    draw = INITIALIZATIONS[name]
    if draw is None:
        return []
    changed = []
    for prefix, module in model.named_modules():
        if not isinstance(module, _WEIGHTED):
            continue
        draw(module.weight, generator=generator)
        changed.append(f"{prefix}.weight" if prefix else "weight")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return changed
