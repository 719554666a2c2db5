"""Torch-free tables of the names and sizes that the command line needs before anything heavy is imported.

A test holds every table equal to the real registry in `optim` or `trainables`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class DataFacts:
    """Sizes of a data set as published: `items` images in all or, where the set ships a test split, to train on."""

    name: str
    items: int | None  # None: as the study file's options or the files say
    test_items: int | None  # None: split off from `items` by `test_fraction`, or as the files say
    classes: int | None
    image_size: int | None
    summary: str
    augmentations: tuple[str, ...] = ("none",)
    ships_test: bool = False
    """Whether the set has a test split of its own; only validation images come out of the training images then."""


@dataclass(frozen=True)
class AugmentationFacts:
    views: int  # of each image
    summary: str
    channels: int | None = None  # that it needs; None: any


@dataclass(frozen=True)
class SplitSizes:
    train: int
    validation: int
    test: int


AUGMENTATIONS: Mapping[str, AugmentationFacts] = {
    "none": AugmentationFacts(1, "the middle of the image, as evaluation sees it"),
    "shift": AugmentationFacts(1, "moved by up to an eighth of its side"),
    "crop_flip": AugmentationFacts(1, "moved by up to an eighth of its side, mirrored or not"),
    "random_resized_crop": AugmentationFacts(1, "8 to 100% of its area at random aspect, mirrored or not"),
    "barlow_twins": AugmentationFacts(2, "two views: crop, flip, colours, blur, solarisation as published", channels=3),
    "barlow_twins_grey": AugmentationFacts(
        2, "two views of characters: crop, brightness, contrast, blur, solarisation", channels=1
    ),
}

DATA: Mapping[str, DataFacts] = {
    facts.name: facts
    for facts in (
        DataFacts(
            "digits",
            1797,
            None,
            10,
            8,
            "1,797 handwritten digits, 8x8 grey, embedded in scikit-learn",
            ("none", "shift", "barlow_twins_grey"),
        ),
        DataFacts(
            "cifar10",
            50_000,
            10_000,
            10,
            32,
            "60,000 colour images of 32x32; data.root holds cifar-10-batches-py, or data.download=true",
            ("none", "crop_flip", "barlow_twins"),
            ships_test=True,
        ),
        DataFacts(
            "cifar100",
            50_000,
            10_000,
            100,
            32,
            "60,000 colour images of 32x32; data.root holds cifar-100-python, or data.download=true",
            ("none", "crop_flip", "barlow_twins"),
            ships_test=True,
        ),
        DataFacts(
            "tiny_imagenet",
            100_000,
            10_000,
            200,
            64,
            "110,000 colour images of 64x64; data.root holds tiny-imagenet-200 as unpacked",
            ("none", "crop_flip", "random_resized_crop", "barlow_twins"),
            ships_test=True,
        ),
        DataFacts(
            "image_folder",
            None,
            None,
            None,
            None,
            "any images in ImageNet's layout; data.root holds train and val",
            ("none", "random_resized_crop", "barlow_twins"),
            ships_test=True,
        ),
        DataFacts(
            "imagenet",
            1_281_167,
            50_000,
            1000,
            224,
            "ILSVRC 2012 as an image folder; data.root holds train and val",
            ("none", "random_resized_crop", "barlow_twins"),
            ships_test=True,
        ),
        DataFacts(
            "synthetic",
            None,
            None,
            None,
            None,
            "learnable random images of any shape, for benchmarks",
            tuple(AUGMENTATIONS),
        ),
    )
}

MODELS: Mapping[str, str] = {
    "resnet8": "three residual blocks of width 16, 32, 64; for 8x8 to 32x32 images",
    "resnet20": "He et al.'s ResNet-20 for CIFAR, 0.27M parameters; for 32x32 images",
    # torchvision's; images up to 96 pixels get a stem that halves them less
    "resnet18": "ResNet-18, 11.2M parameters",
    "resnet34": "ResNet-34, 21.3M parameters",
    "resnet50": "ResNet-50, 23.5M parameters",
    "densenet121": "DenseNet-121, 7.0M parameters; images of 8 pixels or more",
    "mobilenet_v2": "MobileNetV2, 2.2M parameters",
    "efficientnet_b0": "EfficientNet-B0, 4.0M parameters",
}

TASKS: Mapping[str, str] = {
    "classification": "cross-entropy; searched by validation accuracy",
    "barlow_twins": "self-supervised; searched by the accuracy of a kNN probe, confirmed by a linear probe",
}

TASK_VIEWS: Mapping[str, int] = {"classification": 1, "barlow_twins": 2}
"""Views of each image that a task trains on."""

INITIALIZATIONS: tuple[str, ...] = (
    "default",
    "xavier_uniform",
    "xavier_normal",
    "kaiming_uniform",
    "kaiming_normal",
)

SAMPLE_NORM_MODES: tuple[str, ...] = ("exact", "subset", "micro_batch")


def split_sizes(
    items: int, validation_fraction: float, test_fraction: float, test_items: int | None = None
) -> SplitSizes:
    """How many items each split holds: fractions of `items` are rounded up; `test_items` are a set's own test split."""
    # 1e-9: 0.07 * 100 is a hair above 7
    validation = math.ceil(items * validation_fraction - 1e-9)
    if test_items is not None:
        return SplitSizes(items - validation, validation, test_items)
    test = math.ceil(items * test_fraction - 1e-9)
    return SplitSizes(items - validation - test, validation, test)
