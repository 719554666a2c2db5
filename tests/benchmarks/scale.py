"""Bookkeeping of large studies: no-op trials through coordinator, ledger and tracker, without Ray and without MLflow.

    python tests/benchmarks/scale.py [trials]            10,000 by default, over 100 cells, random sampler
    python tests/benchmarks/scale.py 2000 tpe            the same with a sampler that models

Prints milliseconds a trial in windows of a tenth (CPU and wall), the ratio of the last window to the first after the
first hundred trials, and what the process grows by a trial. What it writes is on disk: each event is flushed.
"""

from __future__ import annotations

import gc
import io
import sys
import tempfile
import time
from pathlib import Path

import psutil

from study.coordinator import Coordinator
from study.home import StudyHome
from study.load import validate
from study.plan import Plan, make_plan
from study.progress import Progress
from study.search.ledger import Ledger
from study.spec import Spec
from study.tracking.spool import Notes
from study.tracking.tracker import Tracker

ARMS = (
    "sgd",
    "adamw",
    "lars",
    "lamb",
    "tvlars",
    "sgd_warmup",
    "adamw_warmup",
    "lars_warmup",
    "lamb_warmup",
    "lars_sigmoid",
)
BATCHES = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384)
CELLS = len(ARMS) * len(BATCHES)
WARM = 100
REPORT = {
    "train/loss": 0.5, "train/accuracy": 0.8, "val/loss": 0.6, "val/accuracy": 0.7, "lr_effective": 0.1, "phi": 1.0,
    "images_per_second": 1000.0, "epoch_seconds": 0.1, "diverged": 0.0,
}  # fmt: skip


class Nowhere:
    """A tracking store that takes everything at once."""

    def open(self) -> None: ...

    def write(self, notes: Notes) -> None: ...


def study(trials: int, method: str) -> tuple[Spec, Plan]:
    data = {
        "name": "scale",
        "question": "how much does a trial cost?",
        "train": {"epochs": 2, "batch_size": list(BATCHES)},
        "arms": list(ARMS),
        "search": {"method": method, "trials": max(trials // CELLS, 1), "repeats": 1},
    }
    spec = validate(data, where="benchmark")
    return spec, make_plan(spec)


def run(folder: Path, trials: int, method: str) -> None:
    spec, plan = study(trials, method)
    home = StudyHome(folder, spec.name)
    home.create()
    ledger = Ledger(home.ledger, plan, spec.search)
    tracker = Tracker(Nowhere, home.spool, {})
    coordinator = Coordinator(spec, plan, home, ledger, tracker, Progress(plan, out=io.StringIO()))  # type: ignore[arg-type]
    last = plan.search_trials - CELLS  # after that searches end, and confirm runs come between
    window = max((last - WARM) // 10, 1)
    rows: list[tuple[int, float, float]] = []
    process = psutil.Process()
    done, memory = 0, 0
    cpu, wall = time.process_time(), time.perf_counter()
    first = WARM
    while (job := coordinator.start_job()) is not None:
        for epoch in (1, 2):
            coordinator.take_reports(job.key, [{**REPORT, "epoch": float(epoch)}])
        coordinator.end_trained(job.key, "complete", None)
        coordinator.tick()
        done += 1
        if done == first or (first < done <= last and (done - first) % window == 0):
            if done > first:
                count = window
                rows.append(
                    (done, 1e3 * (time.process_time() - cpu) / count, 1e3 * (time.perf_counter() - wall) / count)
                )
            if done == first:
                gc.collect()
                memory = process.memory_info().rss
            cpu, wall = time.process_time(), time.perf_counter()
    gc.collect()
    grown = (process.memory_info().rss - memory) / max(done - first, 1)
    coordinator.close()
    tracker.close(30)
    for count, cpu_ms, wall_ms in rows:
        print(f"  trials to {count:>6,}: {cpu_ms:6.2f} ms CPU, {wall_ms:6.2f} ms wall each")
    print(f"last window over first: {rows[-1][1] / rows[0][1]:.2f}x CPU, {rows[-1][2] / rows[0][2]:.2f}x wall")
    size = home.ledger.stat().st_size / done
    print(f"the driver grows by {grown / 1024:.1f} KiB a trial; the ledger is {size / 1024:.1f} KiB a trial")


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    method = sys.argv[2] if len(sys.argv) > 2 else "random"
    print(f"{trials:,} no-op trials of 2 epochs over {CELLS} cells, {method}")
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), trials, method)


if __name__ == "__main__":
    main()
