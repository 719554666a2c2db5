"""All diagnostics of a running trial, as its loop calls them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from trainables.diagnostics.layer_table import LayerTable
from trainables.diagnostics.layers import LayerRecorder
from trainables.diagnostics.samples import FixedSamples
from trainables.diagnostics.target import time_to_target
from trainables.session import Session

Record = Callable[[LayerTable], None]


class Diagnostics:
    """What a trial's config asks for; does nothing where that is nothing. Every worker calls it alike.

    Args:
        session: of this worker, not restored yet.
        record: takes each epoch's layer statistics, on the first worker.

    Raises:
        ConfigError: the data or the task do not allow what is asked for.
    """

    def __init__(self, session: Session, record: Record | None = None) -> None:
        self._config = session.config.diagnostics
        self._session = session
        self._record = record if session.workers.rank == 0 else None
        self._layers = LayerRecorder(session, self._config.layer_statistics) if self._config.layer_statistics else None
        self._samples = FixedSamples(session) if self._config.needs_samples else None

    def start(self, epoch: int) -> None:
        """Before the first step of an epoch (from 1)."""
        if self._layers:
            self._layers.start((epoch - 1) * self._session.steps_per_epoch)

    def stepped(self, step: int) -> None:
        """After every optimizer step."""
        if self._layers:
            self._layers.stepped(step)

    def finish(self, epoch: int, steps: int, poll: Callable[[], None], *, diverged: bool) -> dict[str, float]:
        """After an epoch, with the steps over all epochs: report keys of what was measured.

        A run that has diverged has layer statistics, and nothing else that could be measured.
        """
        if not self._config.any:
            return {}
        started = time.perf_counter()
        found: dict[str, float] = {}
        if self._layers:
            table = self._layers.flush(epoch, steps)
            found |= table.scalars()
            if self._record:
                self._record(table)
        if self._samples and not diverged:
            found |= self._samples.measure(epoch, epoch == self._session.config.epochs, poll)
        return {**found, "diagnostics_seconds": time.perf_counter() - started}

    def target(self, reports: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Report keys of the time to target, from the reports of all epochs that did not diverge."""
        if self._config.target_accuracy is None:
            return {}
        images = self._session.steps_per_epoch * self._session.config.batch_size
        return time_to_target(self._config.target_accuracy, reports, images)

    def facts(self) -> dict[str, float | int | str]:
        """How the figures on fixed samples are measured; a trial's constant facts."""
        if not self._samples:
            return {}
        return {"diagnostics_items": self._samples.items, "diagnostics_batchnorm": self._config.batchnorm}
