"""Early stopping that compares like with like: the rungs of one search, and which of its trials go on at each.

`asha`: a trial goes on where its value is at least the (1 - 1/eta) quantile of the values recorded at the rung before
it (Li et al., arXiv 1810.05934, the stopping variant: no trial waits for others). `median`: where its value is at least
the median of the others at that rung, of which there must be three (the rule of Golovin et al., KDD 2017, section
3.1.2, taken at the block's rungs).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

FEWEST_FOR_MEDIAN = 3


@dataclass(frozen=True)
class Verdict:
    """What was decided when a trial came to a rung; a diverged trial stands at the rungs that it did not reach."""

    trial: str  # the job's key
    epoch: int
    value: float
    goes_on: bool
    diverged: bool = False


class RungLog:
    """Verdicts in the order that they were made, a line each: what is written when a trial is told to go on or to stop.

    Rungs are rebuilt from the ledger; where a session was killed between a verdict and its entry, the log has it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._whole = False  # whether the last line is known to be

    def add(self, verdict: Verdict) -> None:
        """Append a line, in the file before the trial hears of it."""
        with self._path.open("a+b") as file:
            if not self._whole and file.tell() > 0:  # a kill may have torn it
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            self._whole = True
            file.write(json.dumps(asdict(verdict)).encode() + b"\n")

    def read(self) -> list[Verdict]:
        """Every whole line; one that a kill has torn is left out."""
        found = []
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        for line in text.splitlines():
            try:
                found.append(Verdict(**json.loads(line)))
            except (ValueError, TypeError):
                continue
        return found


class Rungs:
    """The rungs of one search.

    Args:
        epochs: where they lie, ascending.
        method: "asha" or "median".
        reduction_factor: eta of ASHA.
    """

    def __init__(self, epochs: Sequence[int], method: str, reduction_factor: int) -> None:
        self._values: dict[int, dict[str, float]] = {epoch: {} for epoch in epochs}
        self._verdicts: dict[tuple[str, int], bool] = {}
        self._method = method
        self._reduction_factor = reduction_factor

    def survives(self, key: str, epoch: int, value: float) -> bool:
        """Record a trial's value and say whether it may go on; asked again, the answer is the same.

        Between rungs every trial goes on.
        """
        if epoch not in self._values:
            return True
        known = self._verdicts.get((key, epoch))
        if known is not None:
            return known
        others = [other for name, other in self._values[epoch].items() if name != key]
        self._values[epoch].setdefault(key, value)
        cutoff = self._cutoff(others)
        self._verdicts[key, epoch] = cutoff is None or value >= cutoff
        return self._verdicts[key, epoch]

    def decided(self, key: str, epoch: int) -> bool:
        """Whether the trial has had its verdict there."""
        return (key, epoch) in self._verdicts

    def restore(self, key: str, epoch: int, value: float, goes_on: bool | None) -> None:
        """Enter what an earlier session knew; `goes_on` None: the value was there, the verdict is not known."""
        if epoch not in self._values:
            return
        self._values[epoch].setdefault(key, value)
        if goes_on is not None:
            self._verdicts.setdefault((key, epoch), goes_on)

    def unreached(self, epoch: int) -> tuple[int, ...]:
        """The rungs at or after an epoch: where a trial that diverged then stands with its worst value."""
        return tuple(rung for rung in self._values if rung >= epoch)

    def recorded(self) -> Mapping[int, Mapping[str, float]]:
        """Rung -> trial -> value, for a look from outside."""
        return {epoch: dict(values) for epoch, values in self._values.items()}

    def _cutoff(self, others: Sequence[float]) -> float | None:
        if self._method == "median":
            return float(np.median(others)) if len(others) >= FEWEST_FOR_MEDIAN else None
        return float(np.percentile(others, 100 * (1 - 1 / self._reduction_factor))) if others else None
