"""Time to target: how soon validation accuracy first reached a value. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def time_to_target(accuracy: float, reports: Sequence[Mapping[str, float]], images_per_epoch: int) -> dict[str, float]:
    """Report keys: `target/reached`, 0 or 1 and, once it is 1, `target/epochs`, `target/steps`, `target/seconds`.

    Without the last three the time is censored: all that is known is that it is longer than the run. Seconds are
    those of training alone.

    Args:
        accuracy: the target; reached where `val/accuracy` is at least that.
        reports: of all whole epochs so far, from the first.
        images_per_epoch: that training goes through, of which `images_per_second` were trained on.
    """
    for index, report in enumerate(reports):
        if report["val/accuracy"] >= accuracy:
            return {
                "target/reached": 1.0,
                "target/epochs": report["epoch"],
                "target/steps": report["steps"],
                "target/seconds": sum(images_per_epoch / past["images_per_second"] for past in reports[: index + 1]),
            }
    return {"target/reached": 0.0}
