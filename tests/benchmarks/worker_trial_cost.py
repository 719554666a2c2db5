"""What a trial of two workers costs: a sweep through the platform against Ray's documented recipe.

    python tests/benchmarks/worker_trial_cost.py --rounds 2

The recipe is the one in Ray's documentation: a Tune function trainable that calls `TorchTrainer(...).fit()` with a
`TuneReportCallback`, here with the same loop; it runs with the dashboard on, without which its trials' resources never
come back. Both train one trial of two workers at a time on two CPUs, without early stopping, which only the platform
survives without the dashboard; see sweep_against.py for how the two are compared.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from sweep_against import Duel

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
    "resources.max_concurrent=1",  # the platform then says that its Ray has as many CPUs as the rival's
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
    Duel(
        words=[*STUDY, f"train.epochs={arguments.epochs}"],
        rival=[__file__, "--as-rival"],
        goal=0.6,
        heading=f"of {arguments.epochs} epochs by {WORKERS} workers, one at a time; rival: the recipe",
        limit=1800.0,
    ).run(arguments.rounds)


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


if __name__ == "__main__":
    main()
