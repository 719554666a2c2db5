"""What a study's trials will cost, measured before it runs: a micro-batch for each block, seconds and memory a cell.

Kept in the study's folder; a study that begins there with `train.micro_batch_size: auto` takes its micro-batches
from it.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces import Choice, Dimension, Float, Int, Value
from study.errors import StudyError
from study.home import StudyHome, write_atomically
from study.jobs import Job, trial_config
from study.plan import LARGEST_AUTOMATIC_MICRO_BATCH, Block, Cell, Plan
from study.records import SEARCH
from study.spec import Spec
from trainables.config import TrialConfig

FORMAT = 1
MOST_OF_MEMORY = 0.85  # of a device that a trial may take: the allocator needs room to move
_GIVES_UP_SECONDS = 900.0

Measure = Callable[[TrialConfig], Mapping[str, Any]]


@dataclass(frozen=True)
class CellCost:
    """One cell at its block's micro-batch, for one trial."""

    cell: str
    micro_batch_size: int
    epoch_seconds: float
    images_per_second: float
    memory_bytes: int
    trial_seconds: float  # of the full length
    most_device_hours: float  # of all its trials and confirm runs, if none stops early


@dataclass(frozen=True)
class Calibration:
    device: str
    device_memory_bytes: int
    micro_batches: Mapping[str, int]  # block -> samples
    cells: tuple[CellCost, ...]

    @property
    def most_device_hours(self) -> float:
        return sum(cost.most_device_hours for cost in self.cells)

    @property
    def hours_text(self) -> str:
        """`most_device_hours` for a reader; those of a small study are not nothing."""
        hours = self.most_device_hours
        return f"{hours:,.2f}" if hours >= 0.1 else f"{hours:.1g}"


def calibrate(spec: Spec, plan: Plan, *, seconds: float, device: str, say: Callable[[str], None]) -> Calibration:
    """Measure every cell, one after the other, with parameters from the middle of its space.

    A block's micro-batch is the largest half, quarter, ... of a worker's share of the batch that fits for each of its
    arms; a given `train.micro_batch_size` is taken as it is. Of a GPU that trials share, each has its fraction. `auto`
    is the CPU where the study's workers have no GPU.

    Raises:
        StudyError: a trial cannot run, or not even a micro-batch of two images fits.
    """
    if device == "auto" and spec.resources.gpus_per_worker == 0:
        device = "cpu"
    costs: list[CellCost] = []
    micro_batches: dict[str, int] = {}
    for block in plan.blocks:
        cells = [cell for cell in plan.cells if cell.block is block]
        micro, found = _measured_block(spec, plan, block, cells, seconds, device, say)
        micro_batches[block.label] = micro
        costs += [_cost(spec, plan, cell, micro, facts) for cell, facts in zip(cells, found, strict=True)]
    return Calibration(str(found[-1]["device"]), int(found[-1]["device_memory_bytes"]), micro_batches, tuple(costs))


def _measured_block(
    spec: Spec,
    plan: Plan,
    block: Block,
    cells: Sequence[Cell],
    seconds: float,
    device: str,
    say: Callable[[str], None],
) -> tuple[int, list[Mapping[str, Any]]]:
    """The largest micro-batch that fits all cells, and what each of them costs with it."""
    micro = _first_micro_batch(spec, block)
    while True:
        found = []
        for cell in cells:
            say(f"  {cell.name}: micro-batch {micro}")
            facts = run_measurement(_middle_config(spec, plan, cell, micro, device), seconds)
            if not _fits(spec, facts):
                micro = _smaller(spec, cell, micro)
                break
            found.append(facts)
        else:
            return micro, found


def run_measurement(config: TrialConfig, seconds: float) -> Mapping[str, Any]:
    """`trainables.calibration.measure` in a process of its own.

    Raises:
        StudyError: the trial cannot run; with its last line.
    """
    request = json.dumps({"config": config.to_dict(), "seconds": seconds})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "trainables.calibration"],
            input=request,
            capture_output=True,
            text=True,
            timeout=_GIVES_UP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise StudyError(
            f"a step of {config.arm} with batch {config.batch_size} was not done within {_GIVES_UP_SECONDS:g} s here; "
            "calibrate on the machine that the study is for"
        ) from None
    if done.returncode == -9:  # the system's out-of-memory killer
        return {"fits": False, "device": "cpu", "device_memory_bytes": 0}
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise StudyError(f"a trial of {config.arm} cannot run: {lines[-1] if lines else 'no message'}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def write_calibration(place: StudyHome, spec: Spec, calibration: Calibration) -> None:
    """Keep it for the study, and for `read_calibration`."""
    content = {"format": FORMAT, "spec_hash": spec.digest(), **dataclasses.asdict(calibration)}
    write_atomically(place.calibration, json.dumps(content, indent=1) + "\n")


def read_calibration(place: StudyHome, spec: Spec) -> Calibration | None:
    """The calibration of this very study, or None where there is none or the study file has changed since."""
    try:
        content = json.loads(place.calibration.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if content.pop("format", None) != FORMAT or content.pop("spec_hash", None) != spec.digest():
        return None
    return Calibration(
        content["device"],
        content["device_memory_bytes"],
        content["micro_batches"],
        tuple(CellCost(**cost) for cost in content["cells"]),
    )


def with_micro_batches(plan: Plan, micro_batches: Mapping[str, int]) -> Plan:
    """The plan with these blocks' micro-batches; other blocks keep theirs."""
    if not micro_batches:
        return plan
    blocks = {
        block.label: dataclasses.replace(block, micro_batch_size=micro_batches.get(block.label, block.micro_batch_size))
        for block in plan.blocks
    }
    cells = tuple(dataclasses.replace(cell, block=blocks[cell.block.label]) for cell in plan.cells)
    return dataclasses.replace(plan, blocks=tuple(blocks.values()), cells=cells)


def middle(dimension: Dimension) -> Value:
    """The middle of a range on the scale that is searched; the first of a choice."""
    match dimension:
        case Choice(values=values):
            return values[0]
        case Float(low=low, high=high, log=log):
            return (low * high) ** 0.5 if log else (low + high) / 2
        case Int(low=low, high=high, log=log):
            return round((low * high) ** 0.5) if log else (low + high) // 2


def _middle_config(spec: Spec, plan: Plan, cell: Cell, micro: int, device: str) -> TrialConfig:
    params = {name: middle(dimension) for name, dimension in cell.dimensions.items() if not dimension.when}
    if "batch_size" in params:  # the largest one needs the most memory
        params["batch_size"] = _largest(cell.dimensions["batch_size"])
    config = trial_config(spec, plan, Job(0, cell, 0, SEARCH, 0, params, seed=0))
    return dataclasses.replace(config, micro_batch_size=min(micro, config.batch_size), device=device)


def _largest(dimension: Dimension) -> int:
    return int(max(map(int, dimension.values)) if isinstance(dimension, Choice) else dimension.high)


def _first_micro_batch(spec: Spec, block: Block) -> int:
    given = spec.train.micro_batch_size
    share = -(-block.batch_size // spec.resources.workers)
    return min(share, LARGEST_AUTOMATIC_MICRO_BATCH * 16) if given == "auto" else min(share, given)


def _smaller(spec: Spec, cell: Cell, micro: int) -> int:
    if spec.train.micro_batch_size != "auto":
        raise StudyError(
            f"train.micro_batch_size {micro} does not fit into memory for {cell.name}; lower it, or leave it out"
        )
    if micro <= 2:
        raise StudyError(f"not even a micro-batch of {micro} images fits into memory for {cell.name}")
    return max(2, -(-micro // 2))


def _fits(spec: Spec, facts: Mapping[str, Any]) -> bool:
    gpus = spec.resources.gpus_per_worker
    share = gpus if facts["device"] != "cpu" and not isinstance(gpus, str) and 0 < gpus < 1 else 1.0
    return bool(facts["fits"]) and facts["memory_bytes"] <= MOST_OF_MEMORY * share * facts["device_memory_bytes"]


def _cost(spec: Spec, plan: Plan, cell: Cell, micro: int, facts: Mapping[str, Any]) -> CellCost:
    epoch_seconds = float(facts["epoch_seconds"])
    devices = spec.resources.workers
    return CellCost(
        cell=cell.name,
        micro_batch_size=micro,
        epoch_seconds=epoch_seconds,
        images_per_second=float(facts["images_per_second"]),
        memory_bytes=int(facts["memory_bytes"]),
        trial_seconds=epoch_seconds * cell.block.epochs,
        most_device_hours=epoch_seconds * plan.most_epochs_of(cell) * devices / 3600,
    )
