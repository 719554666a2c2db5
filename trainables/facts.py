"""What stays the same over a trial and goes with it: sizes, phi at both ends, the data's hash, the device."""

from __future__ import annotations

from contextlib import closing

import torch

from trainables.config import TrialConfig
from trainables.efficiency import flops_per_sample, peak_flops
from trainables.isolation import device_name, isolated, resolve_device
from trainables.session import Session, build_session
from trainables.workers import Workers

Facts = dict[str, float | int | str]


def describe(config: TrialConfig) -> Facts:
    """The facts of a trial without training it, whatever number of workers it is made for."""
    with (
        isolated(resolve_device(config.device)),
        closing(build_session(config, workers=Workers(0, config.workers))) as session,
    ):
        return facts_of(session)


def facts_of(session: Session) -> Facts:
    """Constant facts of the session's trial. What does not apply to its arm or device is left out."""
    config, device = session.config, session.device
    arm, splits, last = session.arm, session.splits, session.total_steps - 1
    micro_batch = -(-session.largest_share // session.micro_batches)
    name = device_name(device)
    facts: Facts = {
        "parameters": sum(parameter.numel() for parameter in session.model.parameters()),
        "steps_per_epoch": session.steps_per_epoch,
        "total_steps": session.total_steps,
        "lr": config.lr,
        "micro_batch_size": config.micro_batch_size,
        "batchnorm_batch": micro_batch,
        "data_hash": splits.content_hash,
        **splits.facts,
        "train_items": len(splits.train),
        "validation_items": len(splits.validation),
        "test_items": len(splits.test),
        "classes": splits.classes,
        "device": name,
        "workers": session.workers.size,
        "precision": config.precision,
        "compiled": str(session.network is not session.model).lower(),
        "torch_version": str(torch.__version__),
    }
    first_phi, last_phi = arm.phi(0), arm.phi(last)
    if first_phi is not None and last_phi is not None:
        facts |= {"phi_first": float(first_phi), "phi_last": float(last_phi)}
    decay_epochs, delay_epochs = (config.hyperparameters.get(f"{name}_epochs") for name in ("decay", "delay"))
    if isinstance(decay_epochs, (int, float)):
        facts["lambda"] = 1.0 / (decay_epochs * session.steps_per_epoch)
    if isinstance(delay_epochs, (int, float)):
        facts["delay_steps"] = float(delay_epochs * session.steps_per_epoch)
    if arm.sample_norms is not None:
        facts["sample_norms"] = arm.sample_norms.mode
        if arm.sample_norms.mode == "subset":
            facts["norm_samples"] = arm.sample_norms.subset_size  # of every micro-batch
    peak = peak_flops(name, config.precision)
    if peak is not None:
        facts |= {"peak_flops": peak, "flops_per_sample": flops_per_sample(session)}
    return facts


def utilisation(facts: Facts, images_per_second: float) -> dict[str, float]:
    """`mfu` of all workers together, in [0, 1]; nothing where a peak is not known."""
    if "peak_flops" not in facts:
        return {}
    work = float(facts["flops_per_sample"]) * images_per_second
    return {"mfu": work / (float(facts["peak_flops"]) * int(facts["workers"]))}
