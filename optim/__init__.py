"""Layer-wise large-batch optimizers (LARS, TVLARS, LAMB), their schedules, and the registry of arms."""

from optim.arm import Arm
from optim.lamb import LAMB
from optim.lars import LARS
from optim.registry import ARMS, OPTIMIZERS, ArmInfo, OptimizerInfo, build_arm
from optim.schedules import sigmoid_decay, warmup_cosine
from optim.tvlars import TVLARS

__all__ = [
    "ARMS",
    "LAMB",
    "LARS",
    "OPTIMIZERS",
    "TVLARS",
    "Arm",
    "ArmInfo",
    "OptimizerInfo",
    "build_arm",
    "sigmoid_decay",
    "warmup_cosine",
]
