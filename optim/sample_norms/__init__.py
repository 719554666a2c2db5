"""Mean norms of per-sample gradients, as CLARS needs them."""

from optim.sample_norms.layer import MeanNorms
from optim.sample_norms.recorder import PerSampleNorms

__all__ = ["MeanNorms", "PerSampleNorms"]
