"""Which samples of a batch stand for all of it, and what the mean over them tells."""

import torch
from torch import Tensor


class Sampler:
    """Draws some samples of every batch, without replacement, from a generator of its own.

    Only the generator's state is kept. It is the same on every worker, whose own draws are made of what it gives
    and of their rank: so the state of one of them resumes all.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, samples: int, rank: int) -> Tensor:
        """Places of the chosen ones among `samples`: (min(size, samples),), on the host."""
        seed = int(torch.randint(2**62, (), generator=self.generator))
        own = torch.Generator().manual_seed(seed + rank)
        return torch.randperm(samples, generator=own)[: self.size]


def estimated_total(norms: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """The sum over all `samples` and the variance of that estimate, both (), from the norms (chosen,) of some.

    Unbiased for draws without replacement (Cochran, Sampling Techniques, 1977, chapter 2): the variance is 0 once
    all are chosen.
    """
    chosen = len(norms)
    if chosen == samples:
        return norms.sum(), norms.new_zeros(())
    variance, mean = torch.var_mean(norms)
    return mean * samples, variance * (samples**2 * (1 - chosen / samples) / chosen)
