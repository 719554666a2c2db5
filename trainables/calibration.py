"""What a trial costs, from a few of its steps: seconds, images/s and memory at a micro-batch; or that it does not fit.

`python -m trainables.calibration` reads a request as JSON on standard input and answers likewise: a process of its own
for each measurement, so that its peak memory is its own.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
import time
from contextlib import closing
from dataclasses import dataclass

import torch

from trainables.clock import Stopwatch
from trainables.config import TrialConfig
from trainables.epoch import accumulate_gradient, take_step
from trainables.evaluation import Evaluation
from trainables.isolation import device_name, isolated, resolve_device
from trainables.memory import is_memory_error
from trainables.session import Session, build_session
from trainables.totals import Totals
from trainables.workers import Workers

WARM_UP_STEPS = 1
MOST_STEPS = 20
EVALUATION_CHUNKS = 4


@dataclass(frozen=True)
class Measurement:
    """One configuration on one device. Seconds are of the device, memory is the process's peak there."""

    fits: bool
    device: str
    memory_bytes: int = 0  # peak, of the device on a GPU, resident on a CPU
    device_memory_bytes: int = 0  # that the device has
    step_seconds: float = 0.0  # of an optimizer step
    images_per_second: float = 0.0  # in training
    epoch_seconds: float = 0.0  # estimated: all steps of an epoch and the evaluation after it
    steps: int = 0  # that were timed


def measure(config: TrialConfig, seconds: float) -> Measurement:
    """Train a few steps of `config` and evaluate a few chunks, for about `seconds`; one worker's share of a step.

    Raises what a trial raises for a config that cannot be trained; out of memory is an answer.
    """
    device = resolve_device(config.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        with (
            isolated(device),
            closing(build_session(config, workers=Workers(0, config.workers))) as shared,
        ):
            # the others' part is theirs: nothing is sent
            session = dataclasses.replace(shared, workers=Workers())
            return _measured(session, shared.workers.size, seconds)
    except Exception as error:
        if not is_memory_error(error):
            raise
        return Measurement(fits=False, device=device_name(device), device_memory_bytes=_memory_of(device))


def _measured(session: Session, workers: int, seconds: float) -> Measurement:
    config, device = session.config, session.device
    order = torch.arange(len(session.splits.train))[: -(-config.batch_size // workers)]
    micro_batches = -(-len(order) // config.micro_batch_size)
    session.model.train()
    _step(session, order, micro_batches, 0)
    steps, stopwatch, started = 0, Stopwatch(device), time.perf_counter()
    while steps == 0 or (steps < MOST_STEPS and time.perf_counter() - started < seconds):
        _step(session, order, micro_batches, WARM_UP_STEPS + steps)
        steps += 1
    step_seconds = stopwatch.seconds() / steps
    return Measurement(
        fits=True,
        device=device_name(device),
        memory_bytes=_peak_memory(device),
        device_memory_bytes=_memory_of(device),
        step_seconds=step_seconds,
        images_per_second=config.batch_size / step_seconds,
        epoch_seconds=session.steps_per_epoch * step_seconds + _evaluation_seconds(session) / workers,
        steps=steps,
    )


def _step(session: Session, order: torch.Tensor, micro_batches: int, step: int) -> None:
    chunks = order.tensor_split(micro_batches)
    read = session.splits.train.batches(chunks)
    accumulate_gradient(session, 1, chunks, read, Totals(session.device), lambda: None)
    take_step(session, step)


def _evaluation_seconds(session: Session) -> float:
    """Of the whole validation split, from the time of some chunks; a task's probes are not in it."""
    session.model.eval()
    evaluation = Evaluation(session, lambda: None, last=False)
    stopwatch, images = Stopwatch(session.device), 0
    with torch.no_grad():
        for chunk, (batch, _) in enumerate(evaluation.batches("validation")):
            with session.autocast():
                session.model(batch)
            images += len(batch)
            if chunk + 1 == EVALUATION_CHUNKS:
                break
    return stopwatch.seconds() * evaluation.items("validation") / max(images, 1)


def _memory_of(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    # what this process holds is not available, but is the trial's
    return _bytes_of("/proc/meminfo", "MemAvailable") + _bytes_of("/proc/self/status", "VmRSS")


def _bytes_of(path: str, name: str) -> int:
    """A line of one of the kernel's tables, in bytes."""
    with open(path, encoding="ascii") as file:
        return int(next(line for line in file if line.startswith(f"{name}:")).split()[1]) * 1024


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _main() -> None:
    request = json.load(sys.stdin)
    try:
        answer = measure(TrialConfig.from_dict(request["config"]), request["seconds"])
    except ValueError as error:  # a config that cannot be trained: a sentence for the study's author
        sys.exit(str(error))
    json.dump(dataclasses.asdict(answer), sys.stdout)


if __name__ == "__main__":
    _main()
