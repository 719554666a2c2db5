"""A forward pass that finds out what a model returns and leaves no trace in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from trainables.config import ConfigError
from trainables.plugins import in_short

BATCH = 2


def output_of(model: nn.Module, what: str, *, in_channels: int, image_size: int) -> Tensor:
    """What the model makes of a batch of `BATCH` black images, in eval mode, on the CPU.

    Raises:
        ConfigError: it fails, or returns no tensor; `what` names the model.
    """
    images = torch.zeros(BATCH, in_channels, image_size, image_size)
    try:
        with _undisturbed(model):
            output = model(images)
    except Exception as error:
        shape = tuple(images.shape)
        raise ConfigError(f"{what} fails on images of shape {shape} with {in_short(error)}") from error
    if not isinstance(output, Tensor):
        raise ConfigError(f"{what} must return one tensor, but returned {type(output).__name__}")
    return output


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """In eval mode, which moves no running statistics; each module's own mode and the random state come back."""
    modes = {module: module.training for module in model.modules()}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            model.eval()
            yield
        finally:
            for module, training in modes.items():
                module.training = training
