"""What the tests share: a training problem on paper, ways through an update, a network with independent samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS = 13
SHAPES = ((), (5,), (4, 3), (2, 3, 4), (3, 2, 3, 3), (6, 2), (3, 3), (2, 2))
ZERO_WEIGHTS, ZERO_GRADIENTS, ALL_ZERO = 5, 6, 7  # positions in SHAPES

Array = np.ndarray
Make = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]


def _uneven_lr(step: int) -> float:
    return (0.3, 1.0, 0.7, 0.05)[step % 4]


@dataclass(frozen=True)
class Problem:
    """Start values and a gradient for every step, the same for torch and for numpy."""

    starts: list[Array]  # one a tensor
    gradients: list[list[Array]]  # [step][tensor]

    def lr(self, step: int) -> float:
        """A learning rate that moves up and down, so that where it enters a formula matters."""
        return _uneven_lr(step)

    def parameters(self, dtype: torch.dtype = torch.float64) -> list[torch.nn.Parameter]:
        return [torch.nn.Parameter(torch.tensor(start, dtype=dtype)) for start in self.starts]

    def run(self, make: Make, dtype: torch.dtype = torch.float64) -> list[list[Array]]:
        """Values after every step as float64, [step][tensor]."""
        params = self.parameters(dtype)
        optimizer = make(params)
        path = []
        for step, gradients in enumerate(self.gradients):
            self.advance(optimizer, params, step, gradients)
            path.append([param.detach().double().numpy().copy() for param in params])
        return path

    def advance(
        self,
        optimizer: torch.optim.Optimizer,
        params: Sequence[torch.nn.Parameter],
        step: int,
        gradients: Sequence[Array],
    ) -> None:
        for group in optimizer.param_groups:
            group["lr"] = self.lr(step)
        for param, gradient in zip(params, gradients, strict=True):
            param.grad = torch.tensor(gradient, dtype=param.dtype)
        optimizer.step()

    def assert_close(self, path: list[list[Array]], expected: list[list[Array]], tolerance: float) -> None:
        """Relative L2 error of every tensor at every step, of the values and of how far they came."""
        assert len(path) == len(expected) >= 12
        for step, (got, want) in enumerate(zip(path, expected, strict=True)):
            for index, (a, b, start) in enumerate(zip(got, want, self.starts, strict=True)):
                scale = max(np.linalg.norm(b), np.linalg.norm(b - start))
                error = np.linalg.norm(a - b)
                assert error <= tolerance * scale, (step, SHAPES[index], error / scale)


@pytest.fixture(scope="session")
def problem() -> Problem:
    """Values that float32 holds exactly, so that both dtypes have the same true answer."""
    generator = np.random.default_rng(20)

    def draw(shape: tuple[int, ...]) -> Array:
        return np.asarray(generator.normal(size=shape)).astype(np.float32).astype(np.float64)

    starts = [draw(shape) for shape in SHAPES]
    gradients = [[draw(shape) for shape in SHAPES] for _ in range(STEPS)]
    for index in (ZERO_WEIGHTS, ALL_ZERO):
        starts[index][...] = 0
    for step in range(STEPS):
        for index in (ZERO_GRADIENTS, ALL_ZERO):
            gradients[step][index][...] = 0
    gradients[4] = [np.zeros_like(g) for g in gradients[4]]  # and one step without any gradient
    return Problem(starts, gradients)


class GradientNorms:
    """Stands in for the per-sample norms of a model where there is none: every batch is one sample."""

    def mean_norms(self, weights: Sequence[torch.Tensor]) -> SimpleNamespace:
        norms = [torch.zeros(()) if w.grad is None else w.grad.double().norm() for w in weights]
        home = "meta" if all(norm.is_meta for norm in norms) else "cpu"
        norms = [torch.zeros_like(norm, device=home) if norm.is_meta else norm for norm in norms]
        return SimpleNamespace(means=torch.stack(norms) if norms else torch.zeros(0))

    def clear(self, weights: Sequence[torch.Tensor]) -> None:
        """Nothing is kept."""

    def __contains__(self, weight: object) -> bool:
        return True

    def state_dict(self) -> dict[str, object]:
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        assert state == {}


@pytest.fixture
def make() -> Callable[..., torch.optim.Optimizer]:
    """Builds a registered optimizer by name, with what it cannot do without."""
    from optim import OPTIMIZERS

    needed = {
        "clars": {"sample_norms": GradientNorms()},
        "tvlars": {"lambda_": 0.2, "delay_steps": 4},
        "sgd": {"momentum": 0.9},
    }

    def build(name: str, params: object, lr: float = 0.1, **knobs: object) -> torch.optim.Optimizer:
        arguments = {"weight_decay": 0.01, **needed.get(name, {}), **knobs}
        return OPTIMIZERS[name].factory(params, lr=lr, **arguments)

    return build


@pytest.fixture(params=["blocked", "many_blocks", "single_operations", "foreach"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every way through an update: CPU blocks, several of them a tensor, without fused kernels, and whole tensors."""
    from optim import blocks, fused, trust

    if request.param == "many_blocks":
        for size, value in (("BLOCK", 7), ("SHELF", 15), ("ROW", 3), ("ROWS", 2)):
            monkeypatch.setattr(blocks, size, value)
    if request.param == "single_operations":
        monkeypatch.setattr(fused, "_DTYPES", set())
    if request.param == "foreach":
        monkeypatch.setattr(trust.Bucket, "on_host", property(lambda self: False))
    return str(request.param)


@dataclass(frozen=True)
class Batch:
    """Samples of a classification problem, for the network of `model`, where nothing couples them."""

    images: Tensor  # (12, 3, 6, 6)
    labels: Tensor  # (12,)

    def loss(self, model: nn.Module, rows: slice = slice(None), reduction: str = "mean") -> Tensor:
        return F.cross_entropy(model(self.images[rows]), self.labels[rows], reduction=reduction)

    def expected_means(self, model: nn.Module) -> list[float]:
        """The mean norm of each weight's per-sample gradients, with each sample alone in its batch."""
        weights = [param for param in model.parameters() if param.ndim > 1]
        alone = [slice(i, i + 1) for i in range(len(self.labels))]
        rows = [torch.autograd.grad(self.loss(model, row), weights) for row in alone]
        return [float(torch.stack([g.norm() for g in of_layer]).mean()) for of_layer in zip(*rows, strict=True)]


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 5)
    ).double()


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(12, 3, 6, 6, generator=generator, dtype=torch.float64)
    return Batch(images, torch.randint(0, 5, (12,), generator=generator))
