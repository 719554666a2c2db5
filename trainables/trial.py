"""The training loop as a Ray Train run in local mode. The only module that knows `ray.train`.

Local mode (`num_workers=0`) trains in the process that calls it: no controller, no worker group, no second placement
group, so nothing can be left behind when a trial is stopped. There `ray.train.report` reaches nobody; what the loop
reports goes through the `report` callable instead.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from trainables.config import TrialConfig
from trainables.loop import Outcome, Report, train


def run_trial(
    config: TrialConfig,
    report: Callable[[Report], None],
    *,
    name: str,
    checkpoint_dir: Path,
    should_stop: Callable[[], bool],
    use_gpu: bool = False,
) -> Outcome:
    """Train one trial in this process and return how it ended.

    Args:
        config: what to train.
        report: called after each epoch, in this thread.
        name: the run's name; Ray takes it for the run's identity, so it must be the trial's own.
        checkpoint_dir: where the loop keeps its checkpoints and looks for one to go on from.
        should_stop: asked between steps; once true the loop writes a checkpoint and returns.
        use_gpu: whether the trial holds a GPU.
    """
    trainer = TorchTrainer(
        lambda: train(config, report, checkpoint_dir=checkpoint_dir, should_stop=should_stop),
        scaling_config=ScalingConfig(num_workers=0, use_gpu=use_gpu),
        run_config=RunConfig(name=name),
    )
    outcome = trainer.fit().return_value
    assert isinstance(outcome, Outcome)
    return outcome
