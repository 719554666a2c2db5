"""The two views of Barlow Twins (Zbontar et al. 2021, section 2.1 and appendix A; the authors' code)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainables.augment.blur import blurred
from trainables.augment.colour import JITTER_DRAWS, Jitter, colour_jitter, greyed, solarised
from trainables.augment.resize import RESIZE_DRAWS, ResizedCrop, resized_crop

VIEW_DRAWS = RESIZE_DRAWS + JITTER_DRAWS + 4
SMALL = 64
"""Side length up to which images are small."""


@dataclass(frozen=True)
class View:
    """One view's recipe: crop, flip, jitter, grey, blur, solarise, in this order."""

    crop: ResizedCrop
    jitter: Jitter
    grey: float
    """Probability, as are blur and solarise."""
    blur: float
    solarise: float
    widest_blur: float = 2.0
    """Its deviation is even between 0.1 and this, in pixels."""

    def __call__(self, images: Tensor, uniforms: Tensor, peak: float, size: int) -> Tensor:
        """(batch, channels, height, width) uint8, uniforms (batch, VIEW_DRAWS) -> (..., size, size) in [0, 1]."""
        crop, jitter, rest = torch.split(uniforms, [RESIZE_DRAWS, JITTER_DRAWS, 4], dim=1)
        grey, blur, width, solarise = rest.unbind(dim=1)
        images = colour_jitter(resized_crop(images, crop, peak, size, self.crop), jitter, self.jitter)
        if self.grey:
            images = greyed(images, grey < self.grey)
        if self.blur:
            images = blurred(images, 0.1 + (self.widest_blur - 0.1) * width, blur < self.blur)
        if self.solarise:
            images = solarised(images, solarise < self.solarise)
        return images


def colour_views(size: int) -> tuple[View, View]:
    """The published recipe; small images go without blur.

    Leaving it out is SimCLR's choice for CIFAR (Chen et al. 2020, appendix B.9), and solo-learn's for Barlow Twins
    (da Costa et al., JMLR 2022), whose other settings on CIFAR are the published ones, solarisation included.
    """
    first = View(ResizedCrop(bicubic=True), Jitter(), grey=0.2, blur=1.0, solarise=0.0)
    second = replace(first, blur=0.1, solarise=0.2)
    if size <= SMALL:
        return replace(first, blur=0.0), replace(second, blur=0.0)
    return first, second


def grey_views(size: int) -> tuple[View, View]:
    """For written characters in grey: nothing is mirrored, half of the image at least stays, and there are no colours.

    Probabilities are the published ones. A blur of 2 pixels would leave nothing of a small character: 0.6 at most.
    """
    first = View(
        ResizedCrop(smallest_area=0.5, flip=0.0, bicubic=True),
        Jitter(saturation=0.0, hue=0.0),
        grey=0.0,
        blur=1.0,
        solarise=0.0,
        widest_blur=0.6 if size <= SMALL else 2.0,
    )
    return first, replace(first, blur=0.1, solarise=0.2)
