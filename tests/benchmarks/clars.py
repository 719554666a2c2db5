"""CPU time of a forward and backward pass that also finds per-sample gradient norms, against a plain one.

    python tests/benchmarks/clars.py --rounds 15 --batch-size 128

CIFAR ResNet-20, synthetic images, one thread, process CPU time. Every round runs each contender once, in a
shuffled order; printed are the medians and their ratios to the plain pass. "LARS step" and "CLARS step" are whole
steps, with forward, backward and update.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from optim import CLARS, LARS, PerSampleNorms
from trainables.models import SmallResNet

PLAIN, LARS_STEP = "plain", "LARS step"
BARS = {"exact": 1.6, "subset": 1.15}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    images = torch.randn(arguments.batch_size, 3, 32, 32)
    labels = torch.randint(0, 10, (arguments.batch_size,))

    passes = {PLAIN: only_backward(None, images, labels)}
    for mode in ("exact", "subset", "micro_batch"):
        passes[mode] = only_backward(mode, images, labels)
    passes[LARS_STEP] = whole_step(None, images, labels)
    passes["CLARS step"] = whole_step("exact", images, labels)

    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for index in range(arguments.rounds + 2):  # two rounds to warm up
        for name in random.Random(index).sample(list(passes), len(passes)):
            start = time.process_time()
            passes[name]()
            if index >= 2:
                seconds[name].append(time.process_time() - start)

    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"ResNet-20, batch {arguments.batch_size}, torch {torch.__version__}, {arguments.rounds} rounds")
    for name, median in medians.items():
        rival = LARS_STEP if name.endswith("step") else PLAIN
        bar = f"  (bar {BARS[name]})" if name in BARS else ""
        print(f"  {name:<12} {median * 1e3:8.1f} ms  {median / medians[rival]:.2f} x {rival}{bar}")


def resnet20() -> nn.Module:
    """He et al., arXiv 1512.03385, section 4.2, with projections at the shortcuts."""
    torch.manual_seed(0)
    return SmallResNet(3, 10, widths=(16, 32, 64), blocks_per_stage=3)


def only_backward(mode: str | None, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    model = resnet20()
    norms = None if mode is None else PerSampleNorms(model, mode=mode)

    def run() -> None:
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        if norms is not None:
            norms.mean_norms()
            norms.clear()

    return run


def whole_step(mode: str | None, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    model = resnet20()
    optimizer: torch.optim.Optimizer = LARS(model.parameters(), lr=0.1, weight_decay=5e-4)
    if mode is not None:
        norms = PerSampleNorms(model, mode=mode)
        optimizer = CLARS(model.parameters(), lr=0.1, weight_decay=5e-4, sample_norms=norms)

    def run() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return run


if __name__ == "__main__":
    main()
