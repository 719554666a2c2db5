"""Counts over one search: how many of its trials may still start."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts over one search's own trials, kept up as they begin and end; those beyond the quota are not in them."""

    started: int = 0
    running: int = 0  # trials beyond the quota included
    failed: list[int] = field(default_factory=list)  # positions in order of start
    forgiven: int = 0  # failed ones that no longer count, in `started` all the same

    def startable(self, quota: int) -> int:
        """How many more may start: the quota, and one replacement for each of the quota's trials that failed."""
        allowed = quota + self.forgiven
        return allowed + sum(position < allowed for position in self.failed) - self.started

    def forgive(self) -> None:
        """Count what failed so far as never begun."""
        self.forgiven += len(self.failed)
        self.failed.clear()
