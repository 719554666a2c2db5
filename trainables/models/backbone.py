"""A classifier without its last layer."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from trainables.config import ConfigError
from trainables.models.trial_run import BATCH, output_of


def without_classifier(model: nn.Module, what: str, *, in_channels: int, image_size: int) -> tuple[nn.Module, int]:
    """Replace, in place, the linear layer whose output the model returns by an identity.

    Dropout right before it, in the same `nn.Sequential`, belongs to the classifier and goes too.

    Returns:
        The model, images -> (batch, width), and the width.

    Raises:
        ConfigError: there is no such layer, or the model does not work without it; `what` names the model.
    """
    calls: list[tuple[str, nn.Linear, Tensor]] = []

    def see(path: str, layer: nn.Module, _: Any, output: Tensor) -> None:
        assert isinstance(layer, nn.Linear)
        calls.append((path, layer, output))

    handles = [
        module.register_forward_hook(partial(see, path))
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        output = output_of(model, what, in_channels=in_channels, image_size=image_size)
    finally:
        for handle in handles:
            handle.remove()
    last = next(((path, layer) for path, layer, result in calls if result is output and path), None)
    if last is None:
        raise ConfigError(
            f"{what} has no features to take: what it returns must come straight from an nn.Linear inside it, "
            "which is then left out"
        )
    path, layer = last
    model.set_submodule(path, nn.Identity())
    _drop_dropout(model, path)
    without = f"{what} without its last layer, {path},"
    features = output_of(model, without, in_channels=in_channels, image_size=image_size)
    if features.shape != (BATCH, layer.in_features):
        raise ConfigError(
            f"{without} must return features of shape {(BATCH, layer.in_features)}, but returned "
            f"{tuple(features.shape)}"
        )
    return model, layer.in_features


def _drop_dropout(model: nn.Module, path: str) -> None:
    parent_path, _, key = path.rpartition(".")
    parent = model.get_submodule(parent_path)
    if not isinstance(parent, nn.Sequential):
        return
    names = list(parent._modules)
    for name in reversed(names[: names.index(key)]):
        if not isinstance(parent.get_submodule(name), nn.Dropout):
            return
        parent.set_submodule(name, nn.Identity())
