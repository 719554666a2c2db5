"""Images/s of each augmentation, against torchvision one image at a time and kornia on the batch.

    python tests/benchmarks/augmentation.py --rounds 7
    python tests/benchmarks/augmentation.py --rounds 20 --device cuda --scale 8

All start from raw uint8 images and end before normalisation, with the same recipe; a figure of barlow_twins is of its
two views together, a pair counting as one image. Our time includes the uniform numbers. On the CPU: one thread, CPU
time of the process; on CUDA: wall time with the device waited for, without torchvision. Every round runs each side
once, in a shuffled order; printed are medians and our speed divided by theirs. Kornia is no dependency: its columns
are empty where it is not installed. It draws the order of colour changes once a batch and looks at values on the way;
of its two ways to crop, printed is the faster.
"""

import argparse
import importlib.util
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as vision

from trainables.augment import build_augmentation
from trainables.counter_random import uniforms

Side = Callable[[Tensor], object]
HAS_KORNIA = importlib.util.find_spec("kornia") is not None


@dataclass(frozen=True)
class Case:
    name: str
    raw: int
    size: int
    batch: int
    channels: int = 3

    def __str__(self) -> str:
        return f"{self.name} {self.raw} -> {self.size}, batch {self.batch}"


CASES = (
    Case("crop_flip", 32, 32, 1024),
    Case("random_resized_crop", 32, 32, 1024),
    Case("random_resized_crop", 256, 224, 32),
    Case("barlow_twins", 32, 32, 512),
    Case("barlow_twins", 64, 64, 128),
    Case("barlow_twins", 256, 224, 16),
    Case("barlow_twins_grey", 8, 8, 1024, channels=1),
)


def own(case: Case) -> Side:
    augmentation = build_augmentation(case.name, image_shape=(case.channels, case.size, case.size))

    def run(images: Tensor) -> object:
        places = torch.arange(len(images), device=images.device)
        return [
            view(images, uniforms(key, places, augmentation.draws), 255.0)
            for key, view in enumerate(augmentation.views)
        ]

    return run


def torchvision_side(case: Case) -> Side:
    views = [vision.Compose(parts) for parts in _torchvision_views(case)]

    def run(images: Tensor) -> object:
        return [torch.stack([view(image) for image in images]) for view in views]

    return run


def _torchvision_views(case: Case) -> list[list[nn.Module]]:
    flip = vision.RandomHorizontalFlip()
    if case.name == "crop_flip":
        return [[vision.RandomCrop(case.size, padding=case.size // 8), flip]]
    if case.name == "random_resized_crop":
        return [[vision.RandomResizedCrop(case.size), flip]]
    grey, small = case.channels == 1, case.size <= 64
    views = []
    for blur, solarise in ((1.0, 0.0), (0.1, 0.2)):
        scale = (0.5 if grey else 0.08, 1.0)
        parts: list[nn.Module] = [
            vision.RandomResizedCrop(case.size, scale, interpolation=InterpolationMode.BICUBIC),
            vision.RandomApply([vision.ColorJitter(0.4, 0.4, *((0.0, 0.0) if grey else (0.2, 0.1)))], 0.8),
        ]
        if not grey:
            parts += [flip, vision.RandomGrayscale(0.2)]
        if grey or not small:
            parts += [vision.RandomApply([vision.GaussianBlur(13, (0.1, 0.6 if grey else 2.0))], blur)]
        if solarise:
            parts += [vision.RandomSolarize(128, solarise)]
        views.append([*parts, vision.ToDtype(torch.float32, scale=True)])
    return views


def kornia_side(case: Case, cropping: str) -> Side:
    import kornia.augmentation as kornia

    def make_views() -> list[list[nn.Module]]:
        flip = kornia.RandomHorizontalFlip()
        if case.name == "crop_flip":
            return [[kornia.RandomCrop((case.size, case.size), case.size // 8, cropping_mode=cropping), flip]]
        sides = (case.size, case.size)
        if case.name == "random_resized_crop":
            return [[kornia.RandomResizedCrop(sides, cropping_mode=cropping), flip]]
        grey, small = case.channels == 1, case.size <= 64
        views = []
        for blur, solarise in ((1.0, 0.0), (0.1, 0.2)):
            scale = (0.5 if grey else 0.08, 1.0)
            parts = [kornia.RandomResizedCrop(sides, scale, resample="BICUBIC", cropping_mode=cropping)]
            if grey:
                parts += [kornia.RandomBrightness((0.6, 1.4), p=0.8), kornia.RandomContrast((0.6, 1.4), p=0.8)]
            else:
                parts += [flip, kornia.ColorJiggle(0.4, 0.4, 0.2, 0.1, p=0.8), kornia.RandomGrayscale(p=0.2)]
            if grey or not small:
                reach = min(6, case.size // 2 - 1)
                kernel = 2 * reach + 1
                parts += [kornia.RandomGaussianBlur((kernel, kernel), (0.1, 0.6 if grey else 2.0), p=blur)]
            if solarise:
                parts += [kornia.RandomSolarize((0.5, 0.5), (0.0, 0.0), p=solarise)]
            views.append(parts)
        return views

    sequences = [nn.Sequential(*parts) for parts in make_views()]

    def run(images: Tensor) -> object:
        return [sequence(images.float() / 255) for sequence in sequences]

    return run


def seconds(side: Side, images: Tensor) -> float:
    if images.is_cuda:
        torch.cuda.synchronize()
        start = time.perf_counter()
        side(images)
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    side(images)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds, after one to warm up (default 7)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--scale", type=int, default=1, help="multiplies the batches (default 1)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'images/s':44}{'own':>10}{'torchvision':>14}{'own / it':>10}{'kornia':>10}{'own / it':>10}")
    for case in CASES:
        shape = (case.batch * arguments.scale, case.channels, case.raw, case.raw)
        images = torch.randint(0, 256, shape, dtype=torch.uint8).to(arguments.device)
        sides = {"own": own(case)}
        if arguments.device == "cpu":
            sides["torchvision"] = torchvision_side(case)
        if HAS_KORNIA:
            sides |= {f"kornia {cropping}": kornia_side(case, cropping) for cropping in ("slice", "resample")}
        times: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(arguments.rounds + 1):
            for name in random.sample(list(sides), len(sides)):
                took = seconds(sides[name], images)
                if number:
                    times[name].append(took)
        speeds = {name: len(images) / statistics.median(taken) for name, taken in times.items()}
        line = f"{case!s:44}{speeds['own']:10,.0f}"
        kornia_speeds = [speed for name, speed in speeds.items() if name.startswith("kornia")]
        for rival, width in ((speeds.get("torchvision"), 14), (max(kornia_speeds, default=None), 10)):
            line += f"{'-':>{width}}{'-':>10}" if rival is None else f"{rival:{width},.0f}{speeds['own'] / rival:10.1f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
