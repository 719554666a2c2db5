"""What a trial costs: a 12-trial sweep through the platform against the same 12 trainings as a plain Ray Tune function.

    python tests/benchmarks/trial_cost.py --rounds 3

The rival is `tune.Tuner` with a function trainable of the same loop and its defaults; `--rival lean` starts its Ray
without the dashboard and without Tune's CSV, JSON and TensorBoard loggers. Both train two at a time; see
sweep_against.py for how the two are compared.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from sweep_against import Duel

STUDY = (
    "digits-warmup",
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
        return
    Duel(
        words=[*STUDY, f"train.epochs={arguments.epochs}"],
        rival=[__file__, "--rival", arguments.rival, "--as-rival"],
        goal=0.6,
        heading=f"of {arguments.epochs} epochs, 2 at a time; rival: Tune, {arguments.rival}",
        limit=600.0,
    ).run(arguments.rounds)


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


if __name__ == "__main__":
    main()
