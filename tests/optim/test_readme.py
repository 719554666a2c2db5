"""The README's code runs as it stands there."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import optim

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(optim.__file__).parent / "README.md").read_text("utf-8"), re.S)


@pytest.mark.parametrize("code", BLOCKS, ids=lambda code: code.split("\n")[0])
def test_code_in_the_readme_runs(code):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    x, y = torch.randn(8, 3), torch.randint(0, 2, (8,))
    names = {
        "torch": torch,
        "F": F,
        "model": model,
        "x": x,
        "y": y,
        "batch": (x, y),
        "batches": [(x, y), (2 * x, y)],
        "loss_function": F.cross_entropy,
        "optimizer": optim.LARS(model.parameters(), 0.1),
        "base_lr": 0.5,
        "batch_size": 512,
        "steps_per_epoch": 5,
    }
    exec(compile(code, "README.md", "exec"), names)
    assert set(names) - {"__builtins__"} > {"model", "optimizer"}


def test_the_readme_shows_every_optimizer_and_diagnostic():
    shown = " ".join(BLOCKS)
    for name in (
        "LARS",
        "TVLARS",
        "CLARS",
        "LAMB",
        "LayerStats",
        "hessian_ends",
        "sam_sharpness",
        "gradient_noise_scale",
    ):
        assert re.search(rf"\b{name}\(", shown), name
