"""Models by name: factories taking (in_channels, classes, image_size); models return (batch, classes).

A new one is a factory and a line below; a user's own is named `module:factory` and stands anywhere.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from trainables.config import ConfigError, require_known
from trainables.models.backbone import without_classifier
from trainables.models.small_resnet import SmallResNet, resnet8, resnet20
from trainables.models.trial_run import BATCH, output_of
from trainables.models.vision import VISION_MODELS
from trainables.plugins import in_short, is_reference, load_object

__all__ = ["MODELS", "ModelFactory", "SmallResNet", "build_backbone", "build_model", "resnet8", "resnet20"]

ModelFactory = Callable[[int, int, int], nn.Module]

MODELS: dict[str, ModelFactory] = {
    "resnet8": resnet8,
    "resnet20": resnet20,
    **{model.name: model for model in VISION_MODELS},
}

_ANY_CLASSES = 2  # of the classifier that a backbone loses


def build_model(name: str, *, in_channels: int, classes: int, image_size: int) -> nn.Module:
    """Images (batch, in_channels, image_size, image_size) -> (batch, classes), on the CPU.

    Weights are drawn from torch's global generator.

    Args:
        name: a key of `MODELS`, or `module:factory` for what the user's `factory(in_channels, classes, image_size)`
            returns.
        in_channels: of the images.
        classes: columns of the output.
        image_size: pixels of a side.

    Raises:
        ConfigError: an unknown name, a size that the model cannot take, or a user's factory that cannot be found,
            fails, or makes no model of these shapes.
    """
    if is_reference(name):
        return _own_model(name, in_channels, classes, image_size)
    require_known("model", name, (*MODELS, "module:factory"))
    return MODELS[name](in_channels, classes, image_size)


def build_backbone(name: str, *, in_channels: int, image_size: int) -> tuple[nn.Module, int]:
    """What stands before the classifier of `build_model`'s model: images -> (batch, width) features, and the width.

    Raises:
        ConfigError: as `build_model`; or the model's output does not come from a linear layer that can be left out.
    """
    model = build_model(name, in_channels=in_channels, classes=_ANY_CLASSES, image_size=image_size)
    return without_classifier(model, f"model {name!r}", in_channels=in_channels, image_size=image_size)


def _own_model(name: str, in_channels: int, classes: int, image_size: int) -> nn.Module:
    what = f"model {name!r}"
    factory = load_object(name, what="model")
    call = f"(in_channels={in_channels}, classes={classes}, image_size={image_size})"
    try:
        model = factory(in_channels, classes, image_size)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{what} called with {call} raised {in_short(error)}") from error
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{what} must return a torch.nn.Module, but returned {type(model).__name__}")
    output = output_of(model, what, in_channels=in_channels, image_size=image_size)
    if output.shape != (BATCH, classes):
        raise ConfigError(
            f"{what} must turn {BATCH} images into logits of shape {(BATCH, classes)}, but returned "
            f"{tuple(output.shape)}"
        )
    return model
