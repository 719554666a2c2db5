"""What may be asked for, and when it is due."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainables.diagnostics.config import DiagnosticsConfig
from trainables.fields import ConfigError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"curvature": -1}, "diagnostics.curvature must be at least 0, but got -1"),
        ({"layer_statistics": 2.0}, "layer_statistics must be of type int, but got 2.0"),
        ({"items": 1}, "diagnostics.items must be at least 2"),
        ({"curvature_products": 1}, "diagnostics.curvature_products must be at least 2"),
        ({"noise_batches": 9, "items": 8}, r"noise_batches <= diagnostics.items must hold.*items=8"),
        ({"batchnorm": "evil"}, "diagnostics.batchnorm must be one of train, eval.*did you mean 'eval'"),
        ({"rho": 0.0}, "diagnostics.rho must be a positive number, but got 0.0"),
        ({"rho": float("inf")}, "diagnostics.rho must be a positive number"),
        ({"target_accuracy": 1.5}, "diagnostics.target_accuracy must lie above 0 and be 1 at most, but got 1.5"),
        ({"target_accuracy": True}, "target_accuracy must be of type"),
    ],
)
def test_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DiagnosticsConfig(**changes)


def test_refuses_unknown_fields() -> None:
    with pytest.raises(ConfigError, match=r"a field of diagnostics .*'curvatur'; did you mean 'curvature'"):
        DiagnosticsConfig.from_dict({"curvatur": 1})


def test_is_off_by_default() -> None:
    config = DiagnosticsConfig()
    assert not config.any
    assert not any(config.due(name, 5, True) for name in ("curvature", "sam_sharpness", "noise_scale"))


def test_due_every_so_many_epochs_and_after_the_last() -> None:
    config = DiagnosticsConfig(curvature=3, noise_scale=1)
    assert [epoch for epoch in range(1, 9) if config.due("curvature", epoch, last=epoch == 8)] == [3, 6, 8]
    assert [epoch for epoch in range(1, 4) if config.due("noise_scale", epoch, last=False)] == [1, 2, 3]


def test_needs_no_torch() -> None:
    code = (
        "import sys, trainables.diagnostics.config, trainables.diagnostics.target, trainables.diagnostics.layer_table;"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60, check=False).returncode == 0
