"""Hyperparameter studies of large-batch optimizers: fair sweeps on Ray Tune and Optuna, kept in MLflow.

from study import load_study, open_study, run_study

record = run_study(load_study("digits-warmup", ["search.trials=12"]))
record = open_study("digits-warmup")  # later, or from another process while it runs
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from study.load import load_study
    from study.look import open_study
    from study.session import run_study

__all__ = ["load_study", "open_study", "run_study"]


def __getattr__(name: str) -> Any:
    # Late, so that `python -m study.run --help` pays for nothing that it does not use.
    if name == "load_study":
        from study.load import load_study

        return load_study
    if name == "open_study":
        from study.look import open_study

        return open_study
    if name == "run_study":
        from study.session import run_study

        return run_study
    raise AttributeError(f"module 'study' has no attribute '{name}'")
