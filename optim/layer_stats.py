"""Per-layer statistics of training: norms of weights and gradients, their ratio, trust ratio and phi.

The optimizers compute nearly all of it for their own step; here it is kept, in a ring buffer on the device of
the parameters, and comes to the host in one copy when it is asked for. A step never waits for the device.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.optim import Optimizer

from optim.base import LayerWiseOptimizer, checked_whole_number
from optim.trust import Bucket, LayerValues, Observer

FIELDS = ("lwn", "lgn", "trust_ratio", "phi")


@dataclass(frozen=True)
class LayerStatistics:
    """What `LayerStats.flush` found: one row a recorded step, one column a parameter tensor.

    A tensor without gradient at a step has nan there. Everything is as it was before the step's update.
    """

    names: tuple[str, ...]  # (layers,)
    steps: npt.NDArray[np.int64]  # (records,) steps counted from the attachment, from 0
    lwn: npt.NDArray[np.float32]  # (records, layers) ||w||
    lgn: npt.NDArray[np.float32]  # (records, layers) ||g||, without weight decay
    trust_ratio: npt.NDArray[np.float32]  # (records, layers) the layer's own factor, without phi; 1 if not adapted
    phi: npt.NDArray[np.float32]  # (records, layers) the factor common to all layers; 1 where there is none
    dropped: int  # records that were overwritten before this flush

    @property
    def lnr(self) -> npt.NDArray[np.float32]:
        """LWN / LGN, shape (records, layers): inf where only the gradient is zero, nan where both are."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return cast(npt.NDArray[np.float32], self.lwn / self.lgn)

    def to_dict(self) -> dict[str, Any]:
        """As lists of plain numbers, `lnr` included; nan and inf stay floats."""
        arrays = {name: getattr(self, name).tolist() for name in ("steps", "lwn", "lgn", "lnr", "trust_ratio", "phi")}
        return {"names": list(self.names), **arrays, "dropped": self.dropped}


class LayerStats:
    r"""Watches a layer-wise optimizer's steps and keeps the statistics of the last `capacity` recorded ones.

    It is part of the optimizer's `state_dict` from then on, with its position: a resumed run goes on where it
    stopped. A state without statistics leaves them as they are; a deep copy of the optimizer has none.

    Under `torch.compile` and in a CUDA graph it works as in an eager step, as the position is on the device.
    (Make one step before the capture.)

    Args:
        optimizer: LARS, TVLARS, CLARS or LAMB, with all of its parameter groups.
        named_parameters: as `model.named_parameters()` gives them; must name all of the optimizer's. Without
            it the names that the optimizer was given, or `group0.param0` and so on.
        capacity: records that the buffer holds, at least 1. It takes `16 * capacity` bytes a parameter tensor.
        every: keep one step in so many, at least 1: the steps 0, every, 2 * every ...

    Raises:
        ValueError: a parameter of the optimizer has no name, or a number is below 1.

    Example:
        >>> import torch
        >>> from optim import LARS
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = LARS(model.parameters(), lr=0.1)
        >>> stats = LayerStats(optimizer, model.named_parameters(), capacity=10)
        >>> for _ in range(3):
        ...     optimizer.zero_grad()
        ...     model(torch.tensor([[3.0, 4.0]])).sum().backward()
        ...     optimizer.step()
        >>> table = stats.flush()
        >>> table.names, table.steps.tolist(), table.lgn[0].tolist()
        (('weight', 'bias'), [0, 1, 2], [5.0, 1.0])
    """

    def __init__(
        self,
        optimizer: LayerWiseOptimizer,
        named_parameters: Iterable[tuple[str, Tensor]] | None = None,
        *,
        capacity: int = 128,
        every: int = 1,
    ) -> None:
        self.names = _names(optimizer, named_parameters)
        self.capacity = capacity = checked_whole_number("capacity", capacity, 1)
        self.every = checked_whole_number("every", every, 1)
        self._flushed = 0  # records handed out or dropped so far
        devices = [param.device for group in optimizer.param_groups for param in group["params"]]
        device = next((device for device in devices if device.type != "cpu"), devices[0])
        self._count = torch.zeros(1, dtype=torch.int64, device=device)  # steps seen
        # one more row, for the steps that are not kept
        self._ring = torch.zeros(capacity + 1, len(FIELDS), len(self.names), device=device)
        self._columns: dict[tuple[int, ...], Tensor] = {}
        # this step's parameters on the host: their columns, and [field][column]
        self._on_host: tuple[list[int], list[list[float]]] = ([], [])
        self._on_device: list[tuple[tuple[int, ...], Tensor]] = []
        self._loaded: dict[str, Any] | None = None
        self._optimizer = optimizer
        self._handles = [
            optimizer.register_state_dict_post_hook(self._save),
            optimizer.register_load_state_dict_pre_hook(self._check),
            optimizer.register_load_state_dict_post_hook(self._load),
        ]
        if optimizer.layer_stats is not None:
            optimizer.layer_stats.detach()
        optimizer.layer_stats = self

    def detach(self) -> None:
        """Stop watching. What was recorded can still be flushed."""
        self._optimizer.layer_stats = None
        for handle in self._handles:
            handle.remove()

    def flush(self) -> LayerStatistics:
        """What was recorded since the last flush, oldest first. One copy from device to host."""
        ring = self._ring[: self.capacity]
        packed = torch.cat([self._count.view(torch.uint8), ring.reshape(-1).view(torch.uint8)]).cpu()
        seen = int(packed[:8].view(torch.int64))
        values = packed[8:].view(torch.float32).view(ring.shape).numpy()
        recorded = -(-seen // self.every)
        first = max(self._flushed, recorded - self.capacity)
        kept, dropped = np.arange(first, recorded, dtype=np.int64), first - self._flushed
        self._flushed = recorded
        fields = {name: values[kept % self.capacity, index] for index, name in enumerate(FIELDS)}
        return LayerStatistics(self.names, kept * self.every, **fields, dropped=dropped)

    def watch(self, groups: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Observer | None]]:
        """Each group with its observer; the record is written when the last group is done.

        Raises:
            RuntimeError: the optimizer has got more parameters since.
        """
        self._on_host, self._on_device = ([], [[] for _ in FIELDS]), []
        first = 0
        if sum(len(group["params"]) for group in groups) != len(self.names):
            raise RuntimeError(
                f"LayerStats knows {len(self.names)} parameters, but the optimizer has others by now: "
                "make a new LayerStats after add_param_group"
            )
        # on the host a step that is not kept costs nothing; elsewhere nobody knows which step it is
        readable = self._ring.device.type == "cpu" and not torch.compiler.is_compiling()
        due = not readable or int(self._count) % self.every == 0
        for group in groups:
            yield group, partial(self._observe, first) if due else None
            first += len(group["params"])
        self._write()

    def _observe(
        self,
        first: int,
        bucket: Bucket,
        weight_norms: LayerValues,
        grad_norms: LayerValues,
        ratios: LayerValues,
        common: LayerValues,
    ) -> None:
        columns = [first + position for position in bucket.positions]
        values = (weight_norms, grad_norms, ratios, common)
        if bucket.on_host:
            self._on_host[0].extend(columns)
            for row, value in zip(self._on_host[1], values, strict=True):
                plain = value.tolist() if isinstance(value, Tensor) else value
                row.extend([plain] * len(columns) if isinstance(plain, float) else plain)
            return
        rows = [
            torch.as_tensor(value, dtype=torch.float32, device=self._ring.device)
            if isinstance(value, Tensor)
            else torch.full((), cast(float, value), device=self._ring.device)
            for value in values
        ]
        self._on_device.append((tuple(columns), torch.stack([row.expand(len(columns)) for row in rows])))

    def _write(self) -> None:
        """Put the record of this step into the ring, and count it."""
        if torch.compiler.is_compiling() or self._ring.device.type != "cpu" or self._on_device:
            row = torch.full(self._ring.shape[1:], math.nan, device=self._ring.device)
            if self._on_host[0]:  # parameters on the host beside others
                row.copy_(torch.from_numpy(self._host_row()))
            for some, found in self._on_device:
                row.index_copy_(1, self._index(some), found)
            record = torch.div(self._count, self.every, rounding_mode="floor")
            slot = torch.where(self._count % self.every == 0, record % self.capacity, self.capacity)
            self._ring.index_copy_(0, slot, row.unsqueeze(0))
            self._count.add_(1)
            return
        count = int(self._count)
        if count % self.every == 0:
            self._ring.numpy()[count // self.every % self.capacity] = self._host_row()
        self._count.fill_(count + 1)

    def _host_row(self) -> npt.NDArray[np.float32]:
        columns, values = self._on_host
        row = np.full((len(FIELDS), len(self.names)), math.nan, dtype=np.float32)
        row[:, columns] = np.array(values, dtype=np.float32)
        return row

    def _index(self, columns: tuple[int, ...]) -> Tensor:
        """The columns as a tensor; kept, since a copy to the device cannot be part of a CUDA graph."""
        if torch.compiler.is_compiling():
            return torch.tensor(columns, device=self._ring.device)
        if columns not in self._columns:
            self._columns[columns] = torch.tensor(columns, device=self._ring.device)
        return self._columns[columns]

    def _save(self, _: Optimizer, state_dict: dict[str, Any]) -> None:
        state_dict["layer_stats"] = {
            "names": list(self.names),
            "capacity": self.capacity,
            "every": self.every,
            "flushed": self._flushed,
            "count": self._count,
            "ring": self._ring,
        }

    def _check(self, _: Optimizer, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict.get("layer_stats")
        if self._loaded is not None and tuple(self._loaded["names"]) != self.names:
            other = sorted(set(self._loaded["names"]) ^ set(self.names)) or "the same names in another order"
            raise ValueError(f"the state's layer statistics must be of the same layers, but they differ in {other}")

    def _load(self, _: Optimizer) -> None:
        """As with torch's hyperparameters, capacity and every are those of the state."""
        if self._loaded is None:
            return
        self.capacity, self.every, self._flushed = (self._loaded[name] for name in ("capacity", "every", "flushed"))
        self._count = self._loaded["count"].detach().to(device=self._count.device, copy=True)
        self._ring = self._loaded["ring"].detach().to(device=self._ring.device, copy=True)
        self._loaded = None


def _names(optimizer: LayerWiseOptimizer, named_parameters: Iterable[tuple[str, Tensor]] | None) -> tuple[str, ...]:
    """The name of each of the optimizer's parameters, in its order."""
    if named_parameters is None:
        return tuple(
            name
            for index, group in enumerate(optimizer.param_groups)
            for name in group.get("param_names", [f"group{index}.param{k}" for k in range(len(group["params"]))])
        )
    known = {id(param): name for name, param in named_parameters}
    found = []
    for index, group in enumerate(optimizer.param_groups):
        for position, param in enumerate(group["params"]):
            if id(param) not in known:
                raise ValueError(
                    f"named_parameters must name every parameter of the optimizer, but group {index} has one of "
                    f"shape {tuple(param.shape)} at position {position} that it lacks"
                )
            found.append(known[id(param)])
    return tuple(found)
