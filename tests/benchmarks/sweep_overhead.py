"""A sweep of synthetic one-second trials on the platform, MLflow on, against bare Ray Tune: what bookkeeping adds.

    python tests/benchmarks/sweep_overhead.py [trials] [platform|bare]        1,000 trials by default, both in turn

Both sides run the same trial (an actor that sleeps for a second and reports once) eight at a time in reused actors on
a local Ray with eight logical CPUs. Bare Tune draws two numbers at random for each trial and has its file loggers off;
the platform asks Optuna, keeps its ledger and tells MLflow's sqlite store of every trial. Prints wall seconds of each,
after Ray has started, and the ratio; the ideal is trials / 8.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ray import tune

AT_ONCE = 8
SECONDS = 1.0
REPORT = {"epoch": 1.0, "train/loss": 0.5, "val/loss": 0.6, "val/accuracy": 0.7, "lr_effective": 0.1}


class SleepTrial(tune.Trainable):
    """Sleeps, reports once, ends; reused as the platform's own trials are."""

    def step(self) -> dict[str, Any]:
        time.sleep(SECONDS)
        reports = {"reports": [REPORT], "outcome": {"status": "complete", "epochs": 1, "reason": None}}
        return {**reports, "val/accuracy": REPORT["val/accuracy"], "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config = new_config
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None: ...

    def load_checkpoint(self, checkpoint: Any) -> None: ...

    def log_result(self, result: dict[str, Any]) -> None: ...


def platform(trials: int) -> float:
    from study.coordinator import Coordinator
    from study.facts import first_facts
    from study.home import StudyHome
    from study.load import load_study
    from study.plan import make_plan
    from study.progress import Progress
    from study.search.ledger import Ledger
    from study.storage import Storage
    from study.sweep import trainable
    from study.sweep.engine import cluster, run_sweep
    from study.tracking.notes import start_of_study

    trainable.StudyTrial = SleepTrial  # type: ignore[misc]
    words = [
        "name=overhead", "claims=[]", "search.method=random", "search.repeats=1", "search.early_stopping.method=none",
        "train.epochs=1", f"search.trials={trials // 5 - 1}", f"resources.max_concurrent={AT_ONCE}",
        "arms=[lars, tvlars, lamb, sgd, adamw]",
    ]  # fmt: skip
    spec = load_study("digits-warmup", words)
    plan = make_plan(spec)
    with tempfile.TemporaryDirectory() as folder, cluster(None, cpus=AT_ONCE) as found:
        home = StudyHome(Path(folder), spec.name)
        home.create()
        begun = time.monotonic()
        ledger = Ledger(home.ledger, plan, spec.search)
        tracker = start_of_study(spec, plan, home, first_facts(spec, plan))
        coordinator = Coordinator(spec, plan, home, ledger, tracker, Progress(plan, out=io.StringIO()))
        run_sweep(spec, Storage(home, None, ""), coordinator, (), found)
        seconds = time.monotonic() - begun
        coordinator.close()
        tracker.close(60)
        assert sum(record.state == "complete" for record in ledger.records()) == plan.trials
    return seconds * trials / plan.trials


def bare(trials: int) -> float:
    from study.sweep.engine import cluster

    with tempfile.TemporaryDirectory() as folder, cluster(None, cpus=AT_ONCE):
        begun = time.monotonic()
        tune.Tuner(
            tune.with_resources(SleepTrial, {"cpu": 1}),
            param_space={"lr": tune.loguniform(1e-3, 1), "decay": tune.uniform(0, 1)},
            tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=AT_ONCE, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
        return time.monotonic() - begun


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    if len(sys.argv) > 2:
        print({"platform": platform, "bare": bare}[sys.argv[2]](trials))
        return
    found = {}
    for side in ("bare", "platform"):  # each in a process of its own: a second Ray in one process is not the first
        done = subprocess.run([sys.executable, __file__, str(trials), side], capture_output=True, text=True, check=True)
        found[side] = float(done.stdout.split()[-1])
    ideal = trials * SECONDS / AT_ONCE
    print(f"{trials} trials of {SECONDS:g} s, {AT_ONCE} at a time: at best {ideal:.1f} s")
    print(
        f"bare Tune {found['bare']:.1f} s, platform {found['platform']:.1f} s: {found['platform'] / found['bare']:.3f}x"
    )


if __name__ == "__main__":
    main()
