"""CPU time of one optimizer step on the parameters of a ResNet, against torch's own for-loop optimizers.

    python tests/benchmarks/optimizer_step.py --rounds 15 --model resnet18

One thread, process CPU time. Every round runs each optimizer once, in a shuffled order, after its gradients
are put back and the caches are swept by the others; printed is the median, and the ratio of medians to the
rival with the same state; `stats on` is the same with `optim.LayerStats` recording every step.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
import torchvision

from optim import CLARS, LAMB, LARS, TVLARS, LayerStats
from optim.base import LayerWiseOptimizer


class NormsOfNoModel:
    """Stands in for `PerSampleNorms`, whose own cost is that of `clars.py`: here there is no backward pass."""

    def mean_norms(self, weights: Sequence[torch.Tensor]) -> SimpleNamespace:
        return SimpleNamespace(means=torch.ones(len(weights)))

    def clear(self, weights: Sequence[torch.Tensor]) -> None:
        """Nothing is kept."""

    def __contains__(self, weight: object) -> bool:
        return True

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Nothing was kept."""


Factory = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]

WATCHED = " stats on"
SGD, ADAMW = "SGD for-loop", "AdamW for-loop"
CONTENDERS: dict[str, tuple[Factory, str]] = {
    SGD: (lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9, weight_decay=5e-4, foreach=False), SGD),
    "SGD foreach": (lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9, weight_decay=5e-4, foreach=True), SGD),
    "SGD fused": (lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9, weight_decay=5e-4, fused=True), SGD),
    "LARS": (lambda p: LARS(p, 1e-3, weight_decay=5e-4), SGD),
    "LARS nesterov": (lambda p: LARS(p, 1e-3, weight_decay=5e-4, nesterov=True), SGD),
    "TVLARS": (lambda p: TVLARS(p, 1e-3, lambda_=1e-3, delay_steps=100, weight_decay=5e-4), SGD),
    "CLARS": (lambda p: CLARS(p, 1e-3, weight_decay=5e-4, sample_norms=NormsOfNoModel()), SGD),
    ADAMW: (lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.01, foreach=False), ADAMW),
    "LAMB": (lambda p: LAMB(p, 1e-3, weight_decay=0.01), ADAMW),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--model", nargs="*", default=["resnet18", "resnet50"])
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for model in arguments.model:
        report(model, arguments.rounds, arguments.only)


def report(model: str, rounds: int, names: list[str]) -> None:
    torch.manual_seed(0)
    shapes = [p.shape for p in getattr(torchvision.models, model)(num_classes=10).parameters()]
    gradients = [torch.randn(shape) * 1e-3 for shape in shapes]
    runs = {}
    for name in [run for kind in names for run in (kind, kind + WATCHED)]:
        kind = name.removesuffix(WATCHED)
        params = [torch.nn.Parameter(torch.randn(shape) * 0.05) for shape in shapes]
        for param in params:
            param.grad = torch.zeros_like(param)
        optimizer = CONTENDERS[kind][0](params)
        if name != kind:
            if not isinstance(optimizer, LayerWiseOptimizer):
                continue
            LayerStats(optimizer)
        runs[name] = params, optimizer

    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(rounds + 2):  # two rounds to warm up: the state is made in the first
        for name in random.Random(index).sample(list(runs), len(runs)):
            params, optimizer = runs[name]
            for param, gradient in zip(params, gradients, strict=True):
                assert param.grad is not None
                param.grad.copy_(gradient)
            start = time.process_time()
            optimizer.step()
            if index >= 2:
                seconds[name].append(time.process_time() - start)

    medians = {name: statistics.median(seconds[name]) for name in runs}
    count = sum(shape.numel() for shape in shapes)
    print(f"{model}: {count / 1e6:.1f} M parameters, torch {torch.__version__}, {rounds} rounds, 1 thread")
    for name in names:
        rival = CONTENDERS[name][1]
        ratio = f"{medians[name] / medians[rival]:.2f} x {rival}" if rival in medians else ""
        line = f"  {name:<15} {medians[name] * 1e3:7.2f} ms  {ratio:<22}"
        if name + WATCHED in medians:
            line += f"stats on {medians[name + WATCHED] * 1e3:7.2f} ms"
            line += f"  {medians[name + WATCHED] / medians[rival]:.2f} x" if rival in medians else ""
        print(line.rstrip())


if __name__ == "__main__":
    main()
