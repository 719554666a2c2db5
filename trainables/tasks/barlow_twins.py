"""Barlow Twins: features from two views of each image, without labels.

Zbontar, Jing, Misra, LeCun, Deny, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", arXiv 2103.03230.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from trainables.config import ConfigError, Scalar, require_known
from trainables.tasks.features import extract_features
from trainables.tasks.knn import knn_scores
from trainables.tasks.linear_probe import fit_linear_probe
from trainables.workers import Workers

if TYPE_CHECKING:
    from trainables.evaluation import Evaluation
    from trainables.tasks import ModelMaker, TaskFacts

EPSILON = 1e-5
"""Added to the variance of an embedding's entries, as BatchNorm does."""


@dataclass(frozen=True)
class BarlowTwinsOptions:
    """What a study may set of this task."""

    projector: str | int = "4096-4096-4096"
    """Widths of the projector's layers; the last one is that of the embeddings."""
    off_diagonal_weight: float = 0.005
    knn_neighbours: int = 200
    """At most; a class's mean number of samples is a limit, too."""
    knn_temperature: float = 0.07
    probe_iterations: int = 200
    """At most, of L-BFGS."""
    probe_l2: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("knn_neighbours", "probe_iterations"):
            _require(name, getattr(self, name), (int,), 1, "a whole number of at least 1")
        _require("knn_temperature", self.knn_temperature, (int, float), 1e-6, "a number of at least 1e-6")
        for name in ("off_diagonal_weight", "probe_l2"):
            _require(name, getattr(self, name), (int, float), 0, "a number of at least 0")
        if not self.widths or min(self.widths) < 1:
            raise ConfigError(
                "option projector of barlow_twins must be the widths of its layers, such as 2048-2048-2048, "
                f"but got {self.projector!r}"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the projector's layers; empty where the option cannot be read."""
        parts = str(self.projector).split("-")
        return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()

    @classmethod
    def from_mapping(cls, options: Mapping[str, Scalar]) -> BarlowTwinsOptions:
        """Raises ConfigError on unknown names and on values that break a rule."""
        known = tuple(item.name for item in dataclasses.fields(cls))
        for name in options:
            require_known("an option of barlow_twins", name, known)
        return cls(**cast("dict[str, Any]", dict(options)))


class TwinNetwork(nn.Module):
    """A backbone, whose features are what is wanted, and the projector that the loss looks through."""

    def __init__(self, backbone: nn.Module, width: int, projector_widths: Sequence[int]) -> None:
        super().__init__()
        self.backbone = backbone
        layers: list[nn.Module] = []
        for index, size in enumerate(projector_widths):
            if index > 0:
                layers += [nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
            layers.append(nn.Linear(width, size, bias=False))
            width = size
        self.projector = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, embedding width)."""
        embeddings: Tensor = self.projector(self.backbone(images))
        return embeddings


class BarlowTwins:
    """The loss over the global batch; scored by classifiers on the frozen backbone.

    Its search metric, validation accuracy, is that of nearest neighbours; on the test split, accuracy is a linear
    probe's. Both learn from the training split, without augmentation.
    """

    views = 2

    def __init__(self, facts: TaskFacts) -> None:
        if facts.label_smoothing:
            raise ConfigError(
                f"barlow_twins trains without labels: label_smoothing must be 0, got {facts.label_smoothing}"
            )
        self.classes = facts.classes
        self.options = BarlowTwinsOptions.from_mapping(facts.options)

    def make_model(self, maker: ModelMaker) -> nn.Module:
        backbone, width = maker.backbone()
        return TwinNetwork(backbone, width, self.options.widths)

    def embed(self, model: nn.Module, views: Sequence[Tensor]) -> Tensor:
        """(batch, 2, width), float32 or wider; each view a forward pass of its own, so that BatchNorm and CLARS see
        every sample once in each.

        Raises ConfigError for a single sample, of which BatchNorm has no statistics.
        """
        if len(views[0]) < 2:
            raise ConfigError(
                "barlow_twins needs 2 samples or more in every micro-batch of every worker, but got 1: "
                "raise micro_batch_size, or choose a batch size that it divides"
            )
        embeddings = torch.stack([model(view) for view in views], dim=1)
        return embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))

    def embedding_loss(self, embeddings: Tensor, workers: Workers) -> dict[str, Tensor]:
        """`loss` of the global batch from this worker's embeddings (batch, 2, width), equal on all workers.

        C = BN(z1)^T BN(z2) / B with BN over the global batch, without affine parameters; then
        sum_i (1 - C_ii)^2 + off_diagonal_weight * sum_{i != j} C_ij^2 (equations 1 and 2).
        """
        # half precision is for the layers; a caller's autocast would bring it back into the product
        with torch.autocast(embeddings.device.type, enabled=False):
            own = torch.full((), float(len(embeddings)), dtype=embeddings.dtype, device=embeddings.device)
            count = workers.sum(own)
            centred = embeddings - workers.sum_with_gradient(embeddings.sum(dim=0)) / count
            variance = workers.sum_with_gradient(centred.square().sum(dim=0)) / count
            first, second = (centred * (variance + EPSILON).rsqrt()).unbind(dim=1)
            correlation = workers.sum_with_gradient(first.T @ second) / count
            diagonal = correlation.diagonal()
            width = len(diagonal)
            # one entry shorter, rows of one entry more begin with the diagonal
            off_diagonal = correlation.flatten()[:-1].view(width - 1, width + 1)[:, 1:]
            redundancy = self.options.off_diagonal_weight * off_diagonal.square().sum()
            return {"loss": (1 - diagonal).square().sum() + redundancy}

    def loss(self, model: nn.Module, views: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """The loss of these samples as a batch of their own; with its graph."""
        del labels
        return self.embedding_loss(self.embed(model, views), Workers())

    def metrics(self, counts: Mapping[str, float], items: int) -> dict[str, float]:
        """None: in training there is nothing but the loss."""
        del counts, items
        return {}

    def evaluate(self, evaluation: Evaluation, split: str) -> dict[str, float]:
        """Scores of the frozen backbone.

        "validation": `accuracy` of nearest neighbours, and `loss`, their mean negative log-likelihood. "test":
        `accuracy`, `correct`, `items` and `loss` (mean cross-entropy) of the linear probe. Both: `knn_accuracy`.
        """
        backbone = cast(nn.Module, evaluation.model.backbone)
        train = extract_features(backbone, evaluation, "train")
        held_out = extract_features(backbone, evaluation, split)
        neighbours = knn_scores(
            train,
            held_out,
            classes=self.classes,
            neighbours=self.options.knn_neighbours,
            temperature=self.options.knn_temperature,
            workers=evaluation.workers,
            poll=evaluation.poll,
        )
        if split == "validation":
            accuracy = neighbours.accuracy
            return {"loss": neighbours.loss, "accuracy": accuracy, "knn_accuracy": accuracy}
        probe = fit_linear_probe(
            train,
            classes=self.classes,
            l2=self.options.probe_l2,
            iterations=self.options.probe_iterations,
            workers=evaluation.workers,
            poll=evaluation.poll,
        )
        scores = probe.scores(held_out, evaluation.workers)
        return {
            "loss": scores.loss,
            "accuracy": scores.accuracy,
            "correct": float(scores.correct),
            "items": float(scores.items),
            "knn_accuracy": neighbours.accuracy,
        }

    def worst(self, items: int) -> dict[str, float]:
        """What guessing scores on `items` samples, with the keys of the test split."""
        chance = 1 / self.classes
        return {
            "loss": math.log(self.classes),
            "accuracy": chance,
            "correct": items * chance,
            "items": float(items),
            "knn_accuracy": chance,
        }


def _require(name: str, value: object, types: tuple[type, ...], least: float, rule: str) -> None:
    fits = isinstance(value, types) and not isinstance(value, bool)
    if not (fits and least <= cast(float, value) < math.inf):
        raise ConfigError(f"option {name} of barlow_twins must be {rule}, but got {value!r}")
