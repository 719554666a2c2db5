"""How much of a device's arithmetic training uses: model FLOPs utilisation (Chowdhery et al., arXiv 2204.02311)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from trainables.session import Session

_PEAKS = {  # device name holds -> dense tensor-core FLOP/s in half precision and, for float32, in TF32 (data sheets)
    "H200": (989.4e12, 494.7e12),
    "H100 NVL": (835.5e12, 417.8e12),
    "H100 PCIe": (756e12, 378e12),
    "H100": (989.4e12, 494.7e12),
    "A100": (312e12, 156e12),
    "A40": (149.7e12, 74.8e12),
    "A10": (125e12, 62.5e12),
    "L40S": (362e12, 183e12),
    "L4": (121e12, 60e12),
    "B200": (2250e12, 1125e12),
}
_SAMPLES = 2  # BatchNorm needs more than one where an image has shrunk to a pixel


def peak_flops(device_name: str, precision: str) -> float | None:
    """FLOP/s that one device could do at best, or None for one that is not in the table."""
    for name, (half, single) in _PEAKS.items():
        if name in device_name:
            return single if precision == "float32" else half
    return None


def flops_per_sample(session: Session) -> float:
    """Of a training step: forward and backward of all views, counted by torch (a multiply-add is two).

    Leaves gradients, buffers and random state as they were.
    """
    device = session.device
    channels, height, width = session.splits.image_shape
    views: Sequence[torch.Tensor] = [
        torch.zeros(_SAMPLES, channels, height, width, device=device) for _ in range(session.task.views)
    ]
    labels = torch.zeros(_SAMPLES, dtype=torch.int64, device=device)
    model = session.model
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    training = model.training
    model.train()
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        FlopCounterMode(display=False) as counter,
    ):
        loss = session.task.loss(model, views, labels)["loss"]
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        torch.autograd.grad(loss, trained, allow_unused=True)
    model.train(training)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    if session.arm.sample_norms is not None:
        session.arm.sample_norms.clear()
    return float(counter.get_total_flops()) / _SAMPLES
