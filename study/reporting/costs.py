"""What a calibration found, as a table for the console."""

from __future__ import annotations

from study.calibration import Calibration
from study.progress import duration


def cost_table(found: Calibration) -> str:
    """A line a cell: micro-batch, speed, memory, and the device-hours of all its trials if none stops early."""
    width = max(len("cell"), *(len(cost.cell) for cost in found.cells))
    lines = [
        f"{'cell':<{width}}  micro-batch  images/s  epoch, s  memory, GiB  trial, h:m:s  device-hours",
        *(
            f"{cost.cell:<{width}}  {cost.micro_batch_size:>11,}  {cost.images_per_second:>8,.0f}  "
            f"{cost.epoch_seconds:>8.2f}  {cost.memory_bytes / 2**30:>11.2f}  {duration(cost.trial_seconds):>12}  "
            f"{cost.most_device_hours:>12.3f}"
            for cost in found.cells
        ),
        f"on {found.device} ({found.device_memory_bytes / 2**30:.1f} GiB): at most {found.hours_text} "
        "device-hours if no trial stops early; a probe's evaluation comes on top",
    ]
    return "\n".join(lines)
