"""A sweep through the platform against the same trainings by a rival, for the benchmarks beside this file.

Both train the same configurations (those of the platform's own ledger, search and confirm runs, without early
stopping), each in a fresh process with a Ray of its own and an empty home folder; the platform writes its ledger,
checkpoints, MLflow store and report besides. The two alternate; the first round warms up and is not counted. The last
report of each training must be equal on both sides. See metered.py for how CPU seconds of a process tree are counted.
"""

import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metered import Cost, run_metered

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Duel:
    """What is compared.

    Args:
        words: of `python -m study.run`: the study and its overrides.
        rival: of this interpreter: a command which takes the file of configurations and the file for its reports.
        goal: largest ratio of CPU seconds.
        heading: what the trainings are.
        limit: seconds that either side may take.
    """

    words: Sequence[str]
    rival: Sequence[str]
    goal: float
    heading: str
    limit: float

    def run(self, rounds: int) -> None:
        """Print each round's figures, then the median ratio and where the CPU time went."""
        with _frozen_code() as code:
            # Neither side may find this machine's other Ray or the caller's settings, and both may keep bytecode.
            dropped = ("RAY_", "TUNE_", "OMP_", "MALLOC_", "STUDY_", "MLFLOW_", "PYTHONDONTWRITEBYTECODE")
            env = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
            env |= {"PYTHONPATH": code, "RAY_USAGE_STATS_ENABLED": "0"}
            counted = []
            for index in range(rounds + 1):
                folder = Path(tempfile.mkdtemp(prefix="cost-", dir="/tmp"))  # short: Ray's sockets lie below it
                try:
                    ours, theirs, trials, differing = self._round(folder, env | {"RAY_TMPDIR": str(folder)})
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                if index == 0:
                    print(f"{trials} trainings {self.heading}; CPU by {ours.method}")
                name = f"round {index}" if index else "warm-up"
                figures = f"{_line(ours, trials)} | rival {_line(theirs, trials)} | ratio {_ratio(ours, theirs):.3f}"
                print(f"  {name:<8} {figures}", flush=True)
                for difference in differing:
                    print(f"    not the same training: {difference}")
                counted += [(ours, theirs)] if index else []
            _summarize(counted, self.goal)

    def _round(self, folder: Path, env: Mapping[str, str]) -> tuple[Cost, Cost, int, list[str]]:
        def run(name: str, *command: str) -> Cost:
            log = folder / f"{name}.log"
            cost = run_metered([sys.executable, *command], env=env, cwd=folder, log=log, limit=self.limit)
            if cost.status != 0:
                sys.exit(f"{name} ended with status {cost.status}:\n{log.read_text()[-3000:]}")
            if cost.left_over:
                print(f"  {name} left {cost.left_over} processes, now killed")
            return cost

        home, configs_file, reports_file = folder / "home", folder / "configs.json", folder / "reports.json"
        ours = run("platform", "-m", "study.run", *self.words, "--home", str(home))
        configs, reports = _trained(self.words, home)
        configs_file.write_text(json.dumps(configs))
        theirs = run("rival", *self.rival, str(configs_file), str(reports_file))
        return ours, theirs, len(configs), _differences(configs, reports, json.loads(reports_file.read_text()))


@contextlib.contextmanager
def _frozen_code() -> Iterator[str]:
    """A copy, so that edits while it runs do not come between the two sides."""
    with tempfile.TemporaryDirectory(prefix="cost-code-") as code:
        for package in ("study", "trainables", "optim", "search_spaces"):
            shutil.copytree(ROOT / package, Path(code, package), ignore=shutil.ignore_patterns("__pycache__"))
        sys.path.insert(0, code)
        yield code


def _trained(words: Sequence[str], home: Path) -> tuple[list[dict[str, Any]], list[Mapping[str, float]]]:
    """What the platform's sweep has trained: each trial's config and its last report."""
    from study.home import StudyHome
    from study.jobs import trial_config
    from study.load import load_study
    from study.plan import make_plan
    from study.records import COMPLETE
    from study.search.ledger import Ledger

    spec = load_study(words[0], list(words[1:]))
    plan = make_plan(spec)
    jobs = Ledger(StudyHome(home, spec.name).ledger, plan, spec.search).jobs()
    if len(jobs) != plan.trials or not all(record.state == COMPLETE for _, record in jobs):
        sys.exit(f"the sweep was not as planned: {[(record.cell, record.state, record.reason) for _, record in jobs]}")
    configs = [{**trial_config(spec, plan, job).to_dict(), "device": "cpu"} for job, _ in jobs]
    return configs, [record.metrics for _, record in jobs]


def _differences(
    configs: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, float]], theirs: Sequence[Sequence[Any]]
) -> list[str]:
    """Where the last reports of the two sides differ, timings apart: both should have done the very same work."""
    by_config = {json.dumps(config, sort_keys=True): metrics for config, metrics in theirs}
    found = []
    for index, (config, report) in enumerate(zip(configs, ours, strict=True)):
        other = by_config.get(json.dumps(config, sort_keys=True), {})
        found += [
            f"trial {index} ({config['arm']}) {name}: {value!r} here, {other.get(name)!r} there"
            for name, value in report.items()
            if "second" not in name and other.get(name) != value
        ]
    return found


def _ratio(ours: Cost, theirs: Cost) -> float:
    return ours.cpu_seconds / theirs.cpu_seconds


def _line(cost: Cost, trials: int) -> str:
    return (
        f"{cost.cpu_seconds:6.1f} CPU-s ({cost.cpu_seconds / trials:5.2f} a trial) "
        f"{cost.wall_seconds:5.1f} s {cost.peak_pss_bytes / 2**30:4.2f} GiB"
    )


def _summarize(counted: Sequence[tuple[Cost, Cost]], goal: float) -> None:
    ratios = [_ratio(ours, theirs) for ours, theirs in counted]
    median = statistics.median(ratios)
    verdict = "met" if median <= goal else "MISSED"
    print(f"median ratio {median:.3f} ({min(ratios):.3f} to {max(ratios):.3f}), goal <= {goal}: {verdict}")
    for name, costs in zip(("platform", "rival"), zip(*counted, strict=True), strict=True):
        roles: Counter[str] = Counter()
        for cost in costs:
            roles.update(cost.by_role)
        shares = ", ".join(
            f"{role} {seconds / len(costs):.1f}" for role, seconds in roles.most_common() if seconds > 0.5
        )
        print(f"  {name:<8} CPU-s by process, sampled: {shares}")
