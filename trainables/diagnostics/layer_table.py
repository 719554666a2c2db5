"""Layer statistics of a trial as a table, and the file that keeps them. Free of torch.

The file has a line of JSON for each epoch with records, after one line with the layers' names. Values are float32 in
the fewest digits that give them back; null where there is none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

FIELDS: Final = ("lwn", "lgn", "trust_ratio")


@dataclass(frozen=True)
class LayerTable:
    """Records of some steps: one row a step, one column a parameter tensor in the model's order.

    As before the step's update. nan: a tensor without gradient at that step, or a value that is not finite.
    """

    names: tuple[str, ...]  # (layers,)
    dimensions: tuple[int, ...]  # (layers,) of the tensors
    steps: npt.NDArray[np.int64]  # (records,) from 0 over all epochs
    epochs: npt.NDArray[np.int64]  # (records,) from 1
    lwn: Array  # (records, layers) norm of the weights
    lgn: Array  # (records, layers) norm of the gradient, without weight decay
    trust_ratio: Array  # (records, layers) the layer's own factor; 1 where the arm or the tensor has none

    @property
    def lnr(self) -> Array:
        """LWN / LGN, (records, layers); inf where only the gradient is zero, nan where both are."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return cast(Array, self.lwn / self.lgn)

    def scalars(self) -> dict[str, float]:
        """Report keys: over all records and all tensors with more than one dimension, where they are finite."""
        adapted = np.array(self.dimensions) > 1
        found = {}
        for name in (*FIELDS, "lnr"):
            values = getattr(self, name)[:, adapted]
            values = values[np.isfinite(values)]
            if values.size:
                found[f"layers/{name}_median"] = float(np.median(values))
                if name == "lnr":
                    found["layers/lnr_max"] = float(values.max())
        return found


class LayerFile:
    """A trial's tables in one file, epoch by epoch; whoever resumes the trial adds to it without doubling an epoch.

    Args:
        path: of the file; made with the first table.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun = False

    def append(self, table: LayerTable) -> None:
        """Add the table of one epoch; safe on disk when this returns.

        The first time, what a run before this one left of this epoch and of later ones is dropped.
        """
        if not len(table.steps):
            return
        epoch = int(table.epochs[0])
        if not self._begun:
            self._begin(table, epoch)
        line = {"epoch": epoch, "steps": table.steps.tolist()}
        line |= {name: [_plain(row) for row in getattr(table, name)] for name in FIELDS}
        with self._path.open("a", encoding="utf-8") as file:
            _write(file, [line])

    def _begin(self, table: LayerTable, epoch: int) -> None:
        header = {"names": list(table.names), "dimensions": list(table.dimensions)}
        known = _lines(self._path)
        kept = [line for line in known[1:] if line["epoch"] < epoch] if known[:1] == [header] else []
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f"{self._path.name}.tmp")
        with temporary.open("w", encoding="utf-8") as file:
            _write(file, [header, *kept])
        temporary.replace(self._path)
        self._begun = True


def read_layers(path: Path) -> LayerTable | None:
    """All that the file holds; None where there is no file, or nothing whole in it."""
    lines = _lines(path)
    if len(lines) < 2:
        return None
    header, epochs = lines[0], lines[1:]
    return LayerTable(
        tuple(header["names"]),
        tuple(header["dimensions"]),
        np.array([step for line in epochs for step in line["steps"]], dtype=np.int64),
        np.array([line["epoch"] for line in epochs for _ in line["steps"]], dtype=np.int64),
        *(np.array([row for line in epochs for row in line[name]], dtype=np.float32) for name in FIELDS),
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines up to the first that is torn."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def _write(file: Any, lines: Sequence[dict[str, Any]]) -> None:
    file.writelines(json.dumps(line, allow_nan=False) + "\n" for line in lines)
    file.flush()
    os.fsync(file.fileno())


def _plain(row: Array) -> list[float | None]:
    return [float(str(value)) if np.isfinite(value) else None for value in row]
