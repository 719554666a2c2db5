"""Layer-wise large-batch optimizers (LARS, TVLARS, CLARS, LAMB), their schedules, and the registry of arms."""

from optim.arm import Arm, PhiKnobs, tvlars_matching
from optim.clars import CLARS
from optim.curvature import HessianEnds, SamSharpness, hessian_ends, sam_sharpness
from optim.lamb import LAMB
from optim.lars import LARS
from optim.layer_stats import LayerStatistics, LayerStats
from optim.noise_scale import NoiseScale, gradient_noise_scale, noise_scale_from_norms
from optim.registry import ARMS, OPTIMIZERS, ArmInfo, OptimizerInfo, build_arm, parameter_groups
from optim.sample_norms import MeanNorms, PerSampleNorms
from optim.schedules import batch_scale, constant, polynomial_decay, sigmoid_decay, warmup_cosine
from optim.tvlars import TVLARS

__all__ = [
    "ARMS",
    "CLARS",
    "LAMB",
    "LARS",
    "OPTIMIZERS",
    "TVLARS",
    "Arm",
    "ArmInfo",
    "HessianEnds",
    "LayerStatistics",
    "LayerStats",
    "MeanNorms",
    "NoiseScale",
    "OptimizerInfo",
    "PerSampleNorms",
    "PhiKnobs",
    "SamSharpness",
    "batch_scale",
    "build_arm",
    "constant",
    "gradient_noise_scale",
    "hessian_ends",
    "noise_scale_from_norms",
    "parameter_groups",
    "polynomial_decay",
    "sam_sharpness",
    "sigmoid_decay",
    "tvlars_matching",
    "warmup_cosine",
]
