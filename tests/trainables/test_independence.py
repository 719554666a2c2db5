"""A trial's result depends on its config alone: not on what ran before, nor on what else is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trainables.config import DataConfig, TrialConfig
from trainables.loop import Report, train

ROOT = Path(__file__).parents[2]
Make = Callable[..., TrialConfig]

FRESH = """
import json, sys
from pathlib import Path
from trainables.config import TrialConfig
from trainables.loop import train
for name, values in json.loads(sys.stdin.read()).items():
    train(TrialConfig.from_dict(values), lambda report: None, checkpoint_dir=Path(sys.argv[1]) / name)
"""

BLOCKED = """
import sys
for name in ("ray", "optuna", "mlflow", "sklearn", "pydantic"):
    sys.modules[name] = None  # as if it were not installed: find_spec gives None, import raises
import json, optim, optim.registry, trainables.facts, trainables.loop
from trainables.config import TrialConfig
reports = []
config = TrialConfig.from_dict(json.loads(sys.stdin.read()))
outcome = trainables.loop.train(config, reports.append)
try:
    trainables.facts.describe(TrialConfig.from_dict({**config.to_dict(), "data": {"name": "digits"}}))
except ImportError:
    print(json.dumps([outcome.status, len(reports), reports[-1]["train/loss"]]))

"""


def python(code: str, stdin: object, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        input=json.dumps(stdin),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_order_of_trials_does_not_matter(
    make_config: Make,
    final_state: Callable[[Path], dict[str, Any]],
    assert_same: Callable[[object, object], None],
    tmp_path: Path,
) -> None:
    """Several arms in one process, diverged, stopped and failed ones before and between them."""
    digits = {"data": DataConfig("digits"), "batch_size": 1077, "micro_batch_size": 1077, "epochs": 2}
    drawn = {**make_config("clars_warmup").hyperparameters, "sample_norms": "subset"}
    configs = {
        "lars": make_config("lars_warmup"),
        "clars": make_config("clars"),
        "clars_drawn": make_config("clars_warmup", hyperparameters=drawn),
        "digits": make_config("tvlars", **digits),
        "lamb": make_config("lamb_warmup", init="kaiming_normal"),
    }
    diverges = make_config("sgd", hyperparameters={"base_lr": 1e38, "weight_decay": 0.0})

    def crash(report: Report) -> None:
        raise RuntimeError("planted")

    def ignore(report: Report) -> None:
        torch.rand(2)

    used = tmp_path / "used"
    for name, config in configs.items():
        assert train(diverges, ignore).status == "diverged"
        assert train(make_config("tvlars"), ignore, should_stop=lambda: True).status == "stopped"
        assert train(make_config("clars"), ignore, should_stop=lambda: True).status == "stopped"
        try:
            train(make_config("adamw", precision="bf16"), crash)
        except RuntimeError:
            torch.manual_seed(11)
        train(config, ignore, checkpoint_dir=used / name)
    for name, config in configs.items():  # each in a process of its own
        python(FRESH, {name: config.to_dict()}, str(tmp_path / "fresh"))
        assert_same(final_state(used / name), final_state(tmp_path / "fresh" / name))


def test_torch_is_enough(make_config: Make) -> None:
    config = make_config("tvlars", epochs=2)
    reports: list[Report] = []
    train(config, reports.append)
    told = json.loads(python(BLOCKED, config.to_dict()))
    assert told == ["complete", 2, reports[-1]["train/loss"]]
