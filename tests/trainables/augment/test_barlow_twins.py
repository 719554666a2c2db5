"""The two views, one image at a time through torchvision with the parameters that the uniform numbers mean."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from trainables.augment.barlow_twins import VIEW_DRAWS, View, colour_views, grey_views
from trainables.augment.resize import draw_boxes
from trainables.counter_random import uniforms

PUBLISHED = [
    # grey, blur, solarise of each view: Zbontar et al. 2021, appendix A
    (colour_views(224), [(0.2, 1.0, 0.0), (0.2, 0.1, 0.2)]),
    (colour_views(32), [(0.2, 0.0, 0.0), (0.2, 0.0, 0.2)]),
    (grey_views(8), [(0.0, 1.0, 0.0), (0.0, 0.1, 0.2)]),
]


def one_at_a_time(view: View, image: Tensor, drawn: Tensor, peak: float, size: int) -> Tensor:
    """The recipe in torchvision's operations on one image in [0, 1]."""
    numbers = drawn.tolist()
    boxes = draw_boxes(drawn[None, :22], *image.shape[-2:], view.crop)
    box = [int(side) for side in (boxes.top, boxes.left, boxes.height, boxes.width)]
    result = functional.crop(image / peak, *box)
    for sides in ([box[2], size], [size, size]):
        result = functional.resize(result, sides, interpolation=InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
    if numbers[22] < view.crop.flip:
        result = functional.horizontal_flip(result)
    if numbers[23] < 0.8:
        bright, contrast, saturation, hue = (2 * number - 1 for number in numbers[24:28])
        changes: list[Callable[[Tensor], Tensor]] = [
            lambda given: functional.adjust_brightness(given, 1 + 0.4 * bright),
            lambda given: functional.adjust_contrast(given, 1 + 0.4 * contrast),
            lambda given: functional.adjust_saturation(given, 1 + 0.2 * saturation),
            lambda given: functional.adjust_hue(given, 0.1 * hue),
        ]
        for _, change in sorted(zip(numbers[28:32], changes, strict=True), key=lambda pair: pair[0]):
            result = change(result)
    grey, blur, width, solarise = numbers[32:]
    if grey < view.grey:
        result = functional.rgb_to_grayscale(result, num_output_channels=3)
    if blur < view.blur:
        sigma = 0.1 + (view.widest_blur - 0.1) * width
        result = functional.gaussian_blur(result, [13, 13], [sigma, sigma])
    if solarise < view.solarise:
        result = functional.solarize(result, 128 / 255)
    return result


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    ("views", "shape", "size", "peak"),
    [
        (colour_views(32), (3, 32, 32), 32, 255),
        (colour_views(72), (3, 96, 96), 72, 255),
        (grey_views(8), (1, 8, 8), 8, 16),
    ],
    ids=["small", "large", "grey"],
)
def test_equals_torchvision_one_image_at_a_time(
    pictures: Callable[..., Tensor],
    views: tuple[View, View],
    shape: tuple[int, int, int],
    size: int,
    peak: int,
    number: int,
) -> None:
    count = 40
    images, drawn = pictures(count, *shape, peak=peak), uniforms(11 + number, torch.arange(count), VIEW_DRAWS)
    found = views[number](images, drawn, float(peak), size)
    assert found.shape == (count, shape[0], size, size)
    for image, row, result in zip(images, drawn, found, strict=True):
        expected = one_at_a_time(views[number], image, row, float(peak), size)
        # inverting a value at the threshold of 128/255 moves it by one grey level
        assert (result - expected).abs().max() < 1.1 / 255
        assert (result - expected).abs().mean() < 1e-4


@pytest.mark.parametrize(("views", "published"), PUBLISHED, ids=["large", "small", "grey"])
def test_probabilities_are_the_published_ones(
    views: tuple[View, View], published: list[tuple[float, float, float]]
) -> None:
    assert [(view.grey, view.blur, view.solarise) for view in views] == published
    for view in views:
        jitter = view.jitter
        assert (jitter.brightness, jitter.contrast, jitter.probability) == (0.4, 0.4, 0.8)
        if view.grey:
            assert (jitter.saturation, jitter.hue) == (0.2, 0.1)
            assert (view.crop.smallest_area, view.crop.flip, view.widest_blur) == (0.08, 0.5, 2.0)


def test_grey_and_solarised_images_are_drawn_one_by_one() -> None:
    """A flat coloured image shows both: grey channels are alike, a bright one turns dark."""
    count = 3000
    image = torch.tensor([255, 235, 245], dtype=torch.uint8).view(1, 3, 1, 1).expand(count, 3, 8, 8)
    quiet = colour_views(32)[1]
    drawn = uniforms(3, torch.arange(count), VIEW_DRAWS)
    drawn[:, 23] = 0.9  # no jitter
    found = quiet(image, drawn, 255.0, 8)[:, :, 4, 4]
    grey, solar = (found.amax(dim=1) - found.amin(dim=1)) < 1e-4, found.mean(dim=1) < 0.5
    table = torch.bincount(2 * grey + solar.long(), minlength=4).numpy()
    assert stats.chisquare(table, [count * share for share in (0.64, 0.16, 0.16, 0.04)]).pvalue > 1e-3
    # runs: whether an image is grey says nothing of the next one
    assert abs(float(torch.corrcoef(torch.stack([grey[:-1], grey[1:]]).double())[0, 1])) < 0.06


def test_blur_is_drawn_one_by_one(pictures: Callable[..., Tensor]) -> None:
    """How sharp an edge stays shows the deviation: all of the first view, a tenth of the second."""
    count = 1500
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    image[..., 4:] = 200
    drawn = uniforms(4, torch.arange(count), VIEW_DRAWS)
    drawn[:, :10], drawn[:, 10:20], drawn[:, 23] = 1 - 2.0**-20, 0.5, 0.9  # the whole image, no jitter
    drawn[:, 32:33] = 0.9  # not grey
    shares = []
    for view in colour_views(65):
        found = view(image.expand(count, -1, -1, -1), drawn, 255.0, 8)[:, 0, 4]
        shares.append(int(((found[:, 2:6].diff(dim=1).abs() > 1e-6).sum(dim=1) > 1).sum()))
    widths = 0.1 + 1.9 * drawn[:, 34]
    visible = int((widths > 0.2).sum())  # below, the neighbours weigh less than 1e-5
    assert abs(shares[0] - visible) <= 30
    assert stats.binomtest(shares[1], count, 0.1 * visible / count).pvalue > 1e-3
