"""Everything that diagnostics add to the report; each part is empty where a study has nothing of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from study.analysis.summary import StudySummary
from study.analysis.traces import Traces
from study.records import StudyRecord
from study.reporting.measured import BlockFigures, curvature_sections, layer_sections
from study.reporting.noise import AcrossSizes, across_sizes, noise_sections
from study.reporting.targets import BlockTargets, CostRow, cost_rows, target_sections


@dataclass(frozen=True)
class Measured:
    """The sections, block by block."""

    layers: list[BlockFigures]
    curvature: list[BlockFigures]
    noise: list[BlockFigures]
    sizes: list[AcrossSizes]
    targets: list[BlockTargets]
    costs: list[CostRow]

    @property
    def links(self) -> list[tuple[str, str]]:
        """Anchor and title of the sections that are there."""
        sections = (
            ("layers", "Layers", self.layers),
            ("curvature", "Curvature", self.curvature),
            ("noise", "Gradient noise", self.noise),
            ("target", "Time to target", self.targets),
            ("diagnostics", "Cost of diagnostics", self.costs),
        )
        return [(anchor, title) for anchor, title, found in sections if found]


def measured_view(record: StudyRecord, summary: StudySummary, traces: Traces, colours: Mapping[str, str]) -> Measured:
    """All sections; `colours` holds the arms'."""
    return Measured(
        layers=layer_sections(record, summary, traces, colours),
        curvature=curvature_sections(record, summary, traces, colours),
        noise=noise_sections(record, summary, traces, colours),
        sizes=across_sizes(record, summary, traces, colours),
        targets=target_sections(record, summary, traces, colours),
        costs=cost_rows(record, summary, traces),
    )
