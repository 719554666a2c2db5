"""Time to target: the first epoch that reaches it decides, and nothing is claimed before."""

from __future__ import annotations

import pytest

from trainables.diagnostics.target import time_to_target


def reports(*accuracies: float) -> list[dict[str, float]]:
    return [
        {"epoch": epoch, "steps": 7.0 * epoch, "val/accuracy": accuracy, "images_per_second": 100.0 * epoch}
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]


def test_first_epoch_that_reaches_it() -> None:
    found = time_to_target(0.9, reports(0.2, 0.9, 0.5, 0.95), images_per_epoch=600)
    assert found == {"target/reached": 1.0, "target/epochs": 2.0, "target/steps": 14.0, "target/seconds": 6.0 + 3.0}


@pytest.mark.parametrize("accuracies", [(), (0.2, 0.899)])
def test_censored_where_it_was_missed(accuracies: tuple[float, ...]) -> None:
    assert time_to_target(0.9, reports(*accuracies), images_per_epoch=600) == {"target/reached": 0.0}
