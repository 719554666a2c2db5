"""Traces of a run: made from plain numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from study.analysis.traces import Trace
from trainables.diagnostics.layer_table import LayerTable

LayersFactory = Callable[..., LayerTable]


@pytest.fixture(scope="session")
def make_layers() -> LayersFactory:
    """`make_layers(lwn, lgn)`: (records, layers) each; the last layer has one dimension."""

    def make(lwn: Sequence[object], lgn: Sequence[object], steps: Sequence[int] = (), per_epoch: int = 1) -> LayerTable:
        weights, gradients = np.array(lwn, dtype=np.float32), np.array(lgn, dtype=np.float32)
        count = weights.shape[1]
        numbers = np.array(steps or range(len(weights)), dtype=np.int64)
        names = (*(f"layer{index}.weight" for index in range(count - 1)), "layer0.bias")
        dimensions = (*[4] * (count - 1), 1)
        return LayerTable(
            names, dimensions, numbers, numbers // per_epoch + 1, weights, gradients, np.full_like(weights, 0.5)
        )

    return make


@pytest.fixture(scope="session")
def make_trace() -> Callable[..., Trace]:
    """`make_trace({key: {epoch: value}}, epochs=10, per_epoch=1, layers=None)`."""

    def make(
        values: dict[str, dict[int, float]] | None = None,
        epochs: int = 10,
        per_epoch: int = 1,
        layers: LayerTable | None = None,
    ) -> Trace:
        reports = []
        for epoch in range(1, epochs + 1):
            own = {key: found[epoch] for key, found in (values or {}).items() if epoch in found}
            reports.append({"epoch": float(epoch), "steps": float(epoch * per_epoch), **own})
        return Trace(tuple(reports), layers)

    return make
