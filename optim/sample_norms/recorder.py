"""The mean norm of per-sample gradients at every layer, from an ordinary backward pass."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from optim.base import checked_whole_number
from optim.sample_norms.layer import Layer, MeanNorms
from optim.sample_norms.sampling import Sampler
from optim.sample_norms.watcher import Watcher

MODES = ("exact", "subset", "micro_batch")
REDUCTIONS = ("mean", "sum")


class LossScaler(Protocol):
    """The part of `torch.amp.GradScaler` that is used here."""

    def scale(self, outputs: Tensor) -> Tensor:
        """`outputs` times the loss scale."""


class PerSampleNorms:
    r"""Records `(1/B) sum_i ||grad_k f_i(w)||` for every weight k with more than one dimension, for `optim.CLARS`.

    f_i is the loss of sample i, one index of every layer's first dimension, and B counts the samples of a step.
    The norms come out of the usual `loss.backward()`; any number of them between two steps add up, as gradients
    do. Where samples are coupled (BatchNorm in training mode) a sample's gradient is its own term in the weight's:
    the terms still average to the gradient. Uses of a weight in one backward pass (a module called twice, a tied
    weight) are added before the norm.

    Modes:
        "exact": all samples.
        "subset": `subset_size` of every backward pass (and worker), drawn afresh and without replacement: an
            unbiased mean, with its standard error.
        "micro_batch": the norms of each backward pass's whole gradient, averaged over passes and workers. A
            different quantity, up to 20 times smaller than the mean over samples; with one pass a step and one
            worker it is the gradient's norm.

    Covered are Linear (dimensions between first and last are positions), Conv1d, Conv2d, Conv3d, Embedding. Tensors
    with `ndim <= 1` are not looked at and cost nothing; frozen ones neither. Layers in eval mode and calls under
    `no_grad` are not recorded. A gradient that a weight gets elsewhere in the same backward pass, as by a penalty
    in the loss, is not seen.

    Works with micro-batches, autocast, DistributedDataParallel (one all-reduce of three numbers a layer at a step;
    on every rank, before or after wrapping), activation checkpointing with `use_reentrant=False`. Not with
    re-entrant checkpointing, sharded parameters (FSDP), or two backward passes over one graph. In a compiled model
    every layer breaks the graph.

    Args:
        model: hooks stay on it until `remove`, or the end of a `with` block.
        mode: "exact", "subset" or "micro_batch".
        subset_size: samples a backward pass in mode "subset", `2 <= subset_size`.
        loss_reduction: "mean" or "sum", how the loss that is differentiated reduces its samples (of all
            micro-batches together). The norms are the same; with "sum", the gradient itself is B times as large.
        grad_scaler: the `torch.amp.GradScaler` that scales the loss, if one does.
        process_group: the workers to average over, where torch.distributed is initialised; None for all.
        seed: of the draws in mode "subset", `0 <= seed`.

    Raises:
        ValueError: an argument breaks its rule, or a weight with more than one dimension belongs to another kind
            of layer, which is named.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> with PerSampleNorms(model) as norms:
        ...     model(torch.tensor([[3.0, 4.0], [-3.0, -4.0]])).mean().backward()
        ...     norms.mean_norms().to_dict()  # the gradient is 0, and each sample's has length 5
        {'weight': (5.0, 0.0)}
    """

    def __init__(
        self,
        model: nn.Module,
        mode: str = "exact",
        *,
        subset_size: int = 16,
        loss_reduction: str = "mean",
        grad_scaler: LossScaler | None = None,
        process_group: Any = None,
        seed: int = 0,
    ) -> None:
        _require_one_of("mode", mode, MODES)
        _require_one_of("loss_reduction", loss_reduction, REDUCTIONS)
        self.model = model
        self.mode = mode
        self.subset_size = checked_whole_number("subset_size", subset_size, 2)
        self.loss_reduction = loss_reduction
        self.grad_scaler = grad_scaler
        self.process_group = process_group
        self.latest: MeanNorms | None = None  # what `mean_norms` returned last: that of the last step
        self._sampler = Sampler(self.subset_size, checked_whole_number("seed", seed, 0))
        self._watcher = Watcher(
            model,
            draw=self._draw if mode == "subset" else None,
            whole=mode == "micro_batch",
            counted=loss_reduction == "sum",
        )

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def mean_norms(self, weights: Iterable[Tensor] | None = None) -> MeanNorms:
        """The means since the last `clear`, of these weights or of all; over all workers where there are several.

        Raises:
            RuntimeError: there was no backward pass since, or one that was not recorded.
        """
        layers = self._layers_of(weights)
        workers = dist.get_world_size(self.process_group) if _distributed() else 1
        _require_recorded(layers, alone=workers == 1)
        if not layers:
            return MeanNorms((), torch.zeros(0), torch.zeros(0), self.mode)
        # not every sample need pass through every layer
        samples = max(layer.samples for layer in self._watcher.layers.values())
        sums = [layer.sums(samples) for layer in layers]
        home = sums[0].device
        dtype = max((one.dtype for one in sums), key=lambda dtype: dtype.itemsize)
        table = torch.stack([one.to(home, dtype, non_blocking=True) for one in sums])
        if workers > 1:
            dist.all_reduce(table, group=self.process_group)
        totals, variances, counts = table.unbind(1)
        # the terms of a mean loss carry their 1/B; DistributedDataParallel takes the mean over workers
        divisor = torch.full_like(totals, workers) if self.loss_reduction == "mean" else counts
        if self.grad_scaler is not None:
            divisor = self.grad_scaler.scale(divisor)
        names = tuple(layer.name for layer in layers)
        self.latest = MeanNorms(names, totals / divisor, variances.sqrt() / divisor, self.mode)
        return self.latest

    def clear(self, weights: Iterable[Tensor] | None = None) -> None:
        """Forget what was recorded, for these weights or for all. CLARS does so in `step` and in `zero_grad`."""
        self._watcher.forget_passes()
        for layer in self._layers_of(weights):
            layer.clear()

    def __contains__(self, weight: object) -> bool:
        return weight in self._watcher.layers

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to draw the same samples: mode and generator. Part of that of CLARS."""
        return {"mode": self.mode, "generator": self._sampler.generator.get_state()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on as the run that gave the state.

        Raises:
            ValueError: it had another mode.
        """
        if state_dict["mode"] != self.mode:
            raise ValueError(
                f"mode must be that of the saved run, {state_dict['mode']!r}, but got (mode={self.mode!r})"
            )
        self._sampler.generator.set_state(state_dict["generator"].cpu())

    def remove(self) -> None:
        """Take all hooks off the model and forget what was recorded. `latest` stays."""
        self._watcher.remove()
        self.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy watches the copy of the model; hooks stay behind when a model alone is copied or pickled."""
        rebuild = partial(
            type(self),
            mode=self.mode,
            subset_size=self.subset_size,
            loss_reduction=self.loss_reduction,
            grad_scaler=self.grad_scaler,
            process_group=self.process_group,
        )
        return rebuild, (self.model,), self.state_dict()

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.load_state_dict(state)

    def _draw(self, samples: int) -> Tensor:
        rank = dist.get_rank(self.process_group) if _distributed() else 0
        return self._sampler.draw(samples, rank)

    def _layers_of(self, weights: Iterable[Tensor] | None) -> list[Layer]:
        known = self._watcher.layers
        return list(known.values()) if weights is None else [known[weight] for weight in weights]


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _require_one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, but got ({name}={value!r})")


def _require_recorded(layers: Sequence[Layer], alone: bool) -> None:
    missed = [layer.name for layer in layers if layer.missed]
    if not missed and layers and all(layer.total is None for layer in layers):
        raise RuntimeError(
            "per-sample norms need a backward pass through recorded layers before every step, but there was none "
            "since the last one"
        )
    # another worker may have used a layer that this one did not
    if alone:
        missed += [layer.name for layer in layers if layer.total is None and layer.weight.grad is not None]
    if missed:
        raise RuntimeError(
            f"no per-sample norms were recorded for the gradient of {', '.join(dict.fromkeys(missed))}: its layer was "
            "in eval mode, its weight was used outside of its layer, or the hooks were removed"
        )
