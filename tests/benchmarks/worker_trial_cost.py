"""What a trial of two workers costs: early-stopped trials through the platform against Ray's documented recipe.

    python tests/benchmarks/worker_trial_cost.py --rounds 2

The recipe is the one in Ray's documentation: a Tune function trainable that calls `TorchTrainer(...).fit()` with a
`TuneReportCallback`, here with the same loop; it runs with the dashboard on, without which its trials' resources never
come back. Both train the same configurations (of the platform's own ledger, search and confirm runs), one trial of two
workers at a time on two CPUs, without early stopping, which only the platform survives without the dashboard. The two
alternate; the first round warms up and is not counted. See metered.py for how CPU seconds of a tree are counted.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metered import Cost, run_metered

ROOT = Path(__file__).parents[2]
GOAL = 0.6
LIMIT_SECONDS = 1800.0
WORKERS = 2
STUDY = (
    "digits-warmup",
    "name=worker-trial-cost",
    "arms=[lars_warmup,sgd_warmup]",
    "claims=[]",
    "search.trials=2",
    "search.repeats=1",
    "search.early_stopping.method=none",
    "confirm.seeds=1",
    f"resources.workers={WORKERS}",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="counted rounds (default 2)")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of a training (default 8)")
    parser.add_argument("--as-rival", nargs=2, metavar=("CONFIGS", "REPORTS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.as_rival:
        run_rival(Path(arguments.as_rival[0]), Path(arguments.as_rival[1]))
        return
    with tempfile.TemporaryDirectory(prefix="cost-code-") as code:
        # A copy, so that edits while it runs do not come between the two sides.
        for package in ("study", "trainables", "optim", "search_spaces"):
            shutil.copytree(ROOT / package, Path(code, package), ignore=shutil.ignore_patterns("__pycache__"))
        sys.path.insert(0, code)
        compare(code, arguments.rounds, arguments.epochs)


def run_rival(configs: Path, reports: Path) -> None:
    """The rival's own process: every configuration as a trial of the documented recipe."""
    import ray
    import ray.train
    from ray import tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    def train_per_worker(config: dict[str, Any]) -> None:
        from trainables.config import TrialConfig
        from trainables.loop import train

        # Ray's report is a barrier: every worker of the recipe calls it, the loop only on the first.
        kept: list[dict[str, float]] = []
        train(TrialConfig.from_dict(config["trial"]), kept.append)
        for epoch in range(config["trial"]["epochs"]):
            ray.train.report(kept[epoch] if kept else {})

    def trainable(config: dict[str, Any]) -> None:
        trainer = TorchTrainer(
            train_per_worker,
            train_loop_config=config,
            scaling_config=ray.train.ScalingConfig(num_workers=WORKERS, resources_per_worker={"CPU": 1}),
            run_config=ray.train.RunConfig(
                name=f"train-{tune.get_context().get_trial_id()}",
                storage_path=str(reports.parent / "train_results"),
                callbacks=[TuneReportCallback()],
            ),
        )
        trainer.fit()

    ray.init(address="local", num_cpus=WORKERS, include_dashboard=True)
    tuner = tune.Tuner(
        # As documented: the trial's own process takes next to nothing, and the number at a time keeps room for workers.
        tune.with_resources(trainable, tune.PlacementGroupFactory([{"memory": 64 << 20}])),
        param_space={"trial": tune.grid_search(json.loads(configs.read_text()))},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=str(reports.parent / "ray_results")),
    )
    results = [[result.config["trial"], result.metrics] for result in tuner.fit()]
    reports.write_text(json.dumps(results, default=str))


def compare(code: str, rounds: int, epochs: int) -> None:
    # Neither side may find this machine's other Ray or settings of the caller's, and both may keep bytecode.
    dropped = ("RAY_", "TUNE_", "OMP_", "MALLOC_", "STUDY_", "MLFLOW_", "PYTHONDONTWRITEBYTECODE")
    env = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    env |= {"PYTHONPATH": code, "RAY_USAGE_STATS_ENABLED": "0"}
    words = [*STUDY, f"train.epochs={epochs}"]
    ratios: list[float] = []
    for index in range(rounds + 1):
        folder = Path(tempfile.mkdtemp(prefix="cost-", dir="/tmp"))  # short: Ray's sockets lie below it
        try:
            ours, theirs, trials, differing = one_round(folder, env, words)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        ratio = ours.cpu_seconds / theirs.cpu_seconds
        if index == 0:
            print(f"{trials} trainings of {epochs} epochs by {WORKERS} workers, one at a time; CPU by {ours.method}")
        name = f"round {index}" if index else "warm-up"
        print(f"  {name:<8} {line(ours, trials)} | recipe {line(theirs, trials)} | ratio {ratio:.3f}", flush=True)
        for difference in differing:
            print(f"    not the same training: {difference}")
        if index:
            ratios.append(ratio)
    if ratios:
        print(f"ratio of CPU seconds {statistics.median(ratios):.3f} (median; the goal is {GOAL} at most)")


def one_round(folder: Path, env: Mapping[str, str], words: list[str]) -> tuple[Cost, Cost, int, list[str]]:
    here = {**env, "RAY_TMPDIR": str(folder)}

    def run(name: str, *command: str) -> Cost:
        log = folder / f"{name}.log"
        cost = run_metered([sys.executable, *command], env=here, cwd=folder, log=log, limit=LIMIT_SECONDS)
        if cost.status != 0:
            sys.exit(f"{name} ended with status {cost.status}:\n{log.read_text()[-3000:]}")
        if cost.left_over:
            print(f"  {name} left {cost.left_over} processes, now killed")
        return cost

    home = folder / "home"
    # The platform says how many CPUs a machine of its own has: as many as the rival's.
    ours = run("platform", "-m", "study.run", *words, "resources.max_concurrent=1", "--home", str(home))
    configs, reports = trained(words, home)
    (folder / "configs.json").write_text(json.dumps(configs))
    theirs = run("recipe", __file__, "--as-rival", str(folder / "configs.json"), str(folder / "reports.json"))
    found = json.loads((folder / "reports.json").read_text())
    return ours, theirs, len(configs), differences(configs, reports, found)


def trained(words: list[str], home: Path) -> tuple[list[dict[str, Any]], list[Mapping[str, float]]]:
    """What the platform's sweep has trained: each trial's config and its last report."""
    from study.home import StudyHome
    from study.jobs import trial_config
    from study.load import load_study
    from study.plan import make_plan
    from study.search.ledger import Ledger

    spec = load_study(words[0], [*words[1:], "resources.max_concurrent=1"])
    plan = make_plan(spec)
    jobs = Ledger(StudyHome(home, spec.name).ledger, plan, spec.search).jobs()
    if len(jobs) != plan.trials or not all(record.state == "complete" for _, record in jobs):
        sys.exit(f"the sweep was not as planned: {[(record.cell, record.state, record.reason) for _, record in jobs]}")
    configs = [{**trial_config(spec, plan, job).to_dict(), "device": "cpu"} for job, _ in jobs]
    return configs, [record.metrics for _, record in jobs]


def differences(
    configs: list[dict[str, Any]], ours: list[Mapping[str, float]], theirs: list[tuple[dict[str, Any], dict[str, Any]]]
) -> list[str]:
    found = {json.dumps(config, sort_keys=True): metrics for config, metrics in theirs}
    wrong = []
    for config, mine in zip(configs, ours, strict=True):
        other = found.get(json.dumps(config, sort_keys=True), {})
        wrong += [
            f"{config['arm']} {key}: {value} against {other.get(key)}"
            for key, value in mine.items()
            if "second" not in key and other.get(key) != value
        ]
    return wrong


def line(cost: Cost, trials: int) -> str:
    return f"{cost.cpu_seconds / trials:5.1f} CPU-s a trial ({cost.wall_seconds:.0f} s wall)"


if __name__ == "__main__":
    main()
