"""Time of one optimizer step on the parameters of a ResNet, against torch's own optimizers and timm's.

    python tests/benchmarks/optimizer_step.py --rounds 15 --model resnet18
    python tests/benchmarks/optimizer_step.py --rounds 50 --device cuda --only "SGD fused" LARS TVLARS CLARS LAMB

On CPU: one thread, process CPU time, rivals are torch's for-loop optimizers with the same state. On CUDA: compiled
steps with a tensor as learning rate, device time, the rival is torch's fused SGD (`--compile` does the same on CPU).
Every round runs each optimizer once, in a shuffled order, after its gradients are put back and the caches are swept by
the others; printed is the median, and the ratio of medians to the rival; `stats on` is the same with
`optim.LayerStats` recording every step.
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
from timm.optim import Lamb as TimmLamb
from timm.optim import Lars as TimmLars

from optim import CLARS, LAMB, LARS, TVLARS, LayerStats
from optim.base import LayerWiseOptimizer


class NormsOfNoModel:
    """Stands in for `PerSampleNorms`, whose own cost is that of `clars.py`: here there is no backward pass."""

    def mean_norms(self, weights: Sequence[torch.Tensor]) -> SimpleNamespace:
        return SimpleNamespace(means=torch.ones(len(weights), device=weights[0].device))

    def clear(self, weights: Sequence[torch.Tensor]) -> None:
        """Nothing is kept."""

    def __contains__(self, weight: object) -> bool:
        return True

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Nothing was kept."""


Rate = float | torch.Tensor
Factory = Callable[[list[torch.nn.Parameter], Rate], torch.optim.Optimizer]

WATCHED = " stats on"
SGD, SGD_FUSED, ADAMW = "SGD for-loop", "SGD fused", "AdamW for-loop"
CONTENDERS: dict[str, tuple[Factory, str]] = {
    SGD: (lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, weight_decay=5e-4, foreach=False), SGD),
    "SGD foreach": (lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, weight_decay=5e-4, foreach=True), SGD),
    SGD_FUSED: (lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, weight_decay=5e-4, fused=True), SGD),
    "timm Lars": (lambda p, lr: TimmLars(p, lr, momentum=0.9, weight_decay=5e-4), SGD),
    "LARS": (lambda p, lr: LARS(p, lr, weight_decay=5e-4), SGD),
    "LARS nesterov": (lambda p, lr: LARS(p, lr, weight_decay=5e-4, nesterov=True), SGD),
    "TVLARS": (lambda p, lr: TVLARS(p, lr, lambda_=1e-3, delay_steps=100, weight_decay=5e-4), SGD),
    "CLARS": (lambda p, lr: CLARS(p, lr, weight_decay=5e-4, sample_norms=NormsOfNoModel()), SGD),
    ADAMW: (lambda p, lr: torch.optim.AdamW(p, lr, weight_decay=0.01, foreach=False), ADAMW),
    "timm Lamb": (lambda p, lr: TimmLamb(p, lr, weight_decay=0.01), ADAMW),
    "LAMB": (lambda p, lr: LAMB(p, lr, weight_decay=0.01), ADAMW),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--model", nargs="*", default=["resnet18", "resnet50"])
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    compiled = arguments.compile or arguments.device == "cuda"
    for model in arguments.model:
        report(model, arguments.rounds, arguments.only, torch.device(arguments.device), compiled)


def report(model: str, rounds: int, names: list[str], device: torch.device, compiled: bool) -> None:
    torch.manual_seed(0)
    shapes = [p.shape for p in getattr(torchvision.models, model)(num_classes=10).parameters()]
    gradients = [(torch.randn(shape) * 1e-3).to(device) for shape in shapes]
    runs = {}
    for name in [run for kind in names for run in (kind, kind + WATCHED)]:
        kind = name.removesuffix(WATCHED)
        params = [torch.nn.Parameter((torch.randn(shape) * 0.05).to(device)) for shape in shapes]
        for param in params:
            param.grad = torch.zeros_like(param)
        optimizer = CONTENDERS[kind][0](params, torch.tensor(1e-3, device=device) if compiled else 1e-3)
        if name != kind:
            if not isinstance(optimizer, LayerWiseOptimizer):
                continue
            LayerStats(optimizer)
        runs[name] = params, torch.compile(optimizer.step) if compiled else optimizer.step

    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(
        rounds + 3
    ):  # three rounds to warm up: the state is made in the first, compiled for in the second
        for name in random.Random(index).sample(list(runs), len(runs)):
            params, step = runs[name]
            for param, gradient in zip(params, gradients, strict=True):
                assert param.grad is not None
                param.grad.copy_(gradient)
            took = seconds_of(step, device)
            if index >= 3:
                seconds[name].append(took)

    medians = {name: statistics.median(seconds[name]) for name in runs}
    count = sum(shape.numel() for shape in shapes)
    where = torch.cuda.get_device_name() if device.type == "cuda" else "1 thread"
    how = ", compiled" if compiled else ""
    print(f"{model}: {count / 1e6:.1f} M parameters, torch {torch.__version__}, {rounds} rounds, {where}{how}")
    for name in names:
        rival = SGD_FUSED if compiled else CONTENDERS[name][1]
        ratio = f"{medians[name] / medians[rival]:.2f} x {rival}" if rival in medians else ""
        line = f"  {name:<15} {medians[name] * 1e3:7.2f} ms  {ratio:<22}"
        if name + WATCHED in medians:
            line += f"stats on {medians[name + WATCHED] * 1e3:7.2f} ms"
            line += f"  {medians[name + WATCHED] / medians[rival]:.2f} x" if rival in medians else ""
        print(line.rstrip())


def seconds_of(step: Callable[[], Any], device: torch.device) -> float:
    """CPU time of a step; on CUDA what passes there between its first kernel and its last."""
    if device.type == "cuda":
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        first.record()
        step()
        last.record()
        torch.cuda.synchronize()
        return first.elapsed_time(last) / 1e3
    start = time.process_time()
    step()
    return time.process_time() - start


if __name__ == "__main__":
    main()
