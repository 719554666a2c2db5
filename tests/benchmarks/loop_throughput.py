"""Images a second of the training loop against a bare hand-written PyTorch loop that does the same.

    python tests/benchmarks/loop_throughput.py --rounds 7

resnet8 on digits, SGD with Nesterov momentum and a cosine schedule, a shift a sample, one thread, wall time of training
alone (the loop measures its own; the bare loop is timed alike). Every round runs both, in a shuffled order, in one
process; printed are the medians and their ratio. The bare loop has what a careful author would write by hand: channels
last, data on the device, one permutation an epoch, a shift by index arithmetic, sums that are read once an epoch.
It has no report, no checkpoint, no check for divergence, no micro-batches.
"""

import argparse
import math
import random
import statistics
import time

import torch
import torch.nn.functional as F

from trainables.config import DataConfig, TrialConfig
from trainables.data import load_data
from trainables.data.splits import ResidentSplit
from trainables.loop import Report, train
from trainables.models import build_model

EPOCHS = 8
LR, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 5e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[128, 1077])
    parser.add_argument("--statistics-every", type=int, default=0, help="steps between layer statistics (default: off)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"resnet8 on digits, torch {torch.__version__}, {arguments.rounds} rounds of {EPOCHS} epochs")
    for batch_size in arguments.batch_sizes:
        rates: dict[str, list[float]] = {"bare": [], "loop": []}
        for index in range(arguments.rounds + 1):  # one to warm up
            for name in random.Random(index).sample(["bare", "loop"], 2):
                rate = bare(batch_size) if name == "bare" else ours(batch_size, arguments.statistics_every)
                if index:
                    rates[name].append(rate)
        ratios = [ours_rate / bare_rate for ours_rate, bare_rate in zip(rates["loop"], rates["bare"], strict=True)]
        medians = {name: statistics.median(values) for name, values in rates.items()}
        print(
            f"  B = {batch_size:<5} bare {medians['bare']:8,.0f} images/s   loop {medians['loop']:8,.0f} images/s   "
            f"ratio of medians {medians['loop'] / medians['bare']:.3f}, by round {min(ratios):.3f} to "
            f"{max(ratios):.3f} (goal: at least 0.95)"
        )


def ours(batch_size: int, statistics_every: int) -> float:
    """Median images/s over the epochs of one trial of ours."""
    diagnostics = {"diagnostics": {"layer_statistics": statistics_every}} if statistics_every else {}
    fields = {
        "arm": "sgd",
        "hyperparameters": {"base_lr": LR, "momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY},
        "data": DataConfig("digits"),
        "model": "resnet8",
        "task": "classification",
        "epochs": EPOCHS,
        "batch_size": batch_size,
        "micro_batch_size": batch_size,
        "seed": 1,
        "lr_scaling": "none",
        "augmentation": "shift",
        **diagnostics,
    }
    reports: list[Report] = []
    train(TrialConfig.from_dict(fields), reports.append)
    return statistics.median(report["images_per_second"] for report in reports[1:])


def bare(batch_size: int) -> float:
    """The same of a loop as one writes it by hand."""
    torch.manual_seed(1)
    splits = load_data(DataConfig("digits"))
    train_split, validation = splits.train, splits.validation
    assert isinstance(train_split, ResidentSplit)
    assert isinstance(validation, ResidentSplit)
    images, labels = splits.normalisation(train_split.images), train_split.labels
    background = float(splits.normalisation(torch.zeros(1, 1, 1, 1, dtype=torch.uint8)))
    held_out = splits.normalisation(validation.images)
    model = build_model("resnet8", in_channels=1, classes=10, image_size=8).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
    steps = len(images) // batch_size
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (1 + math.cos(math.pi * step / (steps * EPOCHS))) / 2
    )
    rates = []
    for _ in range(EPOCHS):
        model.train()
        started = time.perf_counter()
        order = torch.randperm(len(images))
        total = torch.zeros(())
        correct = torch.zeros((), dtype=torch.int64)
        for index in range(steps):
            places = order[index * batch_size : (index + 1) * batch_size]
            batch, target = shifted(images[places], background), labels[places]
            optimizer.zero_grad()
            output = model(batch)
            loss = F.cross_entropy(output, target)
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.detach()
            correct += (output.argmax(dim=1) == target).sum()
        total.item()
        rates.append(steps * batch_size / (time.perf_counter() - started))
        model.eval()
        with torch.no_grad():
            (model(held_out).argmax(dim=1) == validation.labels).float().mean().item()
    return statistics.median(rates[1:])


def shifted(images: torch.Tensor, background: float) -> torch.Tensor:
    """Each image by up to one pixel in both directions."""
    batch, channels, height, width = images.shape
    padded = F.pad(images, (1, 1, 1, 1), value=background)
    corners = torch.randint(0, 3, (2, batch, 1))
    rows, columns = torch.arange(height) + corners[0], torch.arange(width) + corners[1]
    sample, channel = torch.arange(batch)[:, None, None, None], torch.arange(channels)[None, :, None, None]
    return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]


if __name__ == "__main__":
    main()
