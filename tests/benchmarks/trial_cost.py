"""What a trial costs: a 12-trial sweep through the platform against the same 12 trainings as a plain Ray Tune function.

    python tests/benchmarks/trial_cost.py --rounds 3

Both train the same configurations (taken from the sweep's own ledger, search and confirm runs, without early stopping)
with the same loop, two at a time, each in a fresh process with a Ray of its own and an empty home folder; the platform
writes its ledger, checkpoints, MLflow store and report besides. The rival is `tune.Tuner` with a function trainable and
Tune's defaults; `--rival lean` starts its Ray without the dashboard and without Tune's CSV, JSON and TensorBoard
loggers. The two alternate; the first round warms up and is not counted. The last report of each training must be equal
on both sides. See metered.py for how CPU seconds of a process tree are counted.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GOAL = 0.6
LIMIT_SECONDS = 600.0
STUDY = "digits-warmup"
OVERRIDES = (
    "name=trial-cost",
    "arms=[lars_warmup,tvlars,lamb_warmup]",
    "claims=[]",
    "search.trials=3",
    "search.repeats=1",
    "search.early_stopping.method=none",
    "confirm.seeds=1",
    "resources.max_concurrent=2",
)
DEFAULTS, LEAN = "defaults", "lean"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="counted rounds (default 3)")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of a training (default 8)")
    parser.add_argument("--rival", choices=(DEFAULTS, LEAN), default=DEFAULTS)
    parser.add_argument("--as-rival", nargs=2, metavar=("CONFIGS", "REPORTS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.as_rival:
        run_rival(Path(arguments.as_rival[0]), Path(arguments.as_rival[1]), lean=arguments.rival == LEAN)
    else:
        with tempfile.TemporaryDirectory(prefix="cost-code-") as code:
            # A copy, so that edits while it runs do not come between the two sides.
            for package in ("study", "trainables", "optim", "search_spaces"):
                shutil.copytree(ROOT / package, Path(code, package), ignore=shutil.ignore_patterns("__pycache__"))
            sys.path.insert(0, code)
            compare(code, arguments.rounds, arguments.epochs, arguments.rival)


def run_rival(configs: Path, reports: Path, *, lean: bool) -> None:
    """The rival's own process: every configuration as a trial of a plain function trainable."""
    if lean:
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    import ray
    from ray import tune

    def trainable(config: dict[str, Any]) -> None:
        from trainables.config import TrialConfig
        from trainables.loop import train

        train(TrialConfig.from_dict(config["trial"]), tune.report)

    ray.init(address="local", **({"include_dashboard": False} if lean else {}))
    tuner = tune.Tuner(
        trainable,
        param_space={"trial": tune.grid_search(json.loads(configs.read_text()))},
        tune_config=tune.TuneConfig(max_concurrent_trials=2),
        run_config=tune.RunConfig(storage_path=str(reports.parent / "ray_results")),
    )
    results = [[result.config["trial"], result.metrics] for result in tuner.fit()]
    reports.write_text(json.dumps(results, default=str))


def compare(code: str, rounds: int, epochs: int, rival: str) -> None:
    from metered import Cost, run_metered

    # Neither side may find this machine's other Ray or settings of the caller's, and both may keep bytecode.
    dropped = ("RAY_", "TUNE_", "OMP_", "MALLOC_", "STUDY_", "MLFLOW_", "PYTHONDONTWRITEBYTECODE")
    env = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    env |= {"PYTHONPATH": code, "RAY_USAGE_STATS_ENABLED": "0"}
    words = [STUDY, *OVERRIDES, f"train.epochs={epochs}"]
    platform_costs: list[Cost] = []
    rival_costs: list[Cost] = []
    for index in range(rounds + 1):
        folder = Path(tempfile.mkdtemp(prefix="cost-", dir="/tmp"))  # short: Ray's sockets lie below it
        here = env | {"RAY_TMPDIR": str(folder)}

        def run(name: str, *command: str, folder: Path = folder, here: Mapping[str, str] = here) -> Cost:
            log = folder / f"{name}.log"
            cost = run_metered([sys.executable, *command], env=here, cwd=folder, log=log, limit=LIMIT_SECONDS)
            if cost.status != 0:
                sys.exit(f"{name} ended with status {cost.status}:\n{log.read_text()[-3000:]}")
            if cost.left_over:
                print(f"  {name} left {cost.left_over} processes, now killed")
            return cost

        try:
            home = folder / "home"
            ours = run("platform", "-m", "study.run", *words, "--home", str(home))
            configs, reports = trained(words, home)
            (folder / "configs.json").write_text(json.dumps(configs))
            theirs_in = str(folder / "configs.json"), str(folder / "reports.json")
            theirs = run("rival", __file__, "--rival", rival, "--as-rival", *theirs_in)
            differing = differences(configs, reports, json.loads(Path(theirs_in[1]).read_text()))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        trials = len(configs)
        if index == 0:
            print(f"{trials} trainings of {epochs} epochs, 2 at a time; rival: Tune, {rival}; CPU by {ours.method}")
        name = f"round {index}" if index else "warm-up"
        figures = f"{line(ours, trials)} | rival {line(theirs, trials)} | ratio {ratio(ours, theirs):.3f}"
        print(f"  {name:<8} {figures}", flush=True)
        for difference in differing:
            print(f"    not the same training: {difference}")
        if index:
            platform_costs.append(ours)
            rival_costs.append(theirs)
    summarize(platform_costs, rival_costs)


def trained(words: Sequence[str], home: Path) -> tuple[list[dict[str, Any]], list[Mapping[str, float]]]:
    """What the platform's sweep has trained: each trial's config and its last report."""
    from study.home import StudyHome
    from study.jobs import trial_config
    from study.load import load_study
    from study.plan import make_plan
    from study.records import FAILED
    from study.search.ledger import Ledger

    spec = load_study(words[0], list(words[1:]))
    plan = make_plan(spec)
    jobs = Ledger(StudyHome(home, spec.name).ledger, plan, spec.search).jobs()
    failed = [f"{record.cell} failed: {record.reason}" for _, record in jobs if record.state == FAILED]
    if failed or len(jobs) != plan.trials:
        sys.exit("\n".join([f"the sweep has {len(jobs)} trials, {plan.trials} were planned", *failed]))
    return [trial_config(spec, plan, job).to_dict() for job, _ in jobs], [record.metrics for _, record in jobs]


def differences(
    configs: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, float]], theirs: Sequence[Sequence[Any]]
) -> list[str]:
    """Where the last reports of the two sides differ, timings apart: both should have done the very same work."""
    timings = {"images_per_second", "epoch_seconds"}
    by_config = {json.dumps(config, sort_keys=True): metrics for config, metrics in theirs}
    found = []
    for index, (config, report) in enumerate(zip(configs, ours, strict=True)):
        other = by_config[json.dumps(config, sort_keys=True)]
        found += [
            f"trial {index} ({config['arm']}) {name}: {value!r} here, {other.get(name)!r} there"
            for name, value in report.items()
            if name not in timings and other.get(name) != value
        ]
    return found


def ratio(ours: Any, theirs: Any) -> float:
    return float(ours.cpu_seconds / theirs.cpu_seconds)


def line(cost: Any, trials: int) -> str:
    return (
        f"{cost.cpu_seconds:6.1f} CPU-s ({cost.cpu_seconds / trials:5.2f} a trial) "
        f"{cost.wall_seconds:5.1f} s {cost.peak_pss_bytes / 2**30:4.2f} GiB"
    )


def summarize(ours: Sequence[Any], theirs: Sequence[Any]) -> None:
    ratios = [ratio(mine, other) for mine, other in zip(ours, theirs, strict=True)]
    median = statistics.median(ratios)
    verdict = "met" if median <= GOAL else "MISSED"
    print(f"median ratio {median:.3f} ({min(ratios):.3f} to {max(ratios):.3f}), goal <= {GOAL}: {verdict}")
    for name, costs in (("platform", ours), ("rival", theirs)):
        roles: Counter[str] = Counter()
        for cost in costs:
            roles.update(cost.by_role)
        shares = ", ".join(
            f"{role} {seconds / len(costs):.1f}" for role, seconds in roles.most_common() if seconds > 0.5
        )
        print(f"  {name:<8} CPU-s by process, sampled: {shares}")


if __name__ == "__main__":
    main()
