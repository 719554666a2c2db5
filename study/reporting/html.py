"""The report of a study: one self-contained HTML file, written atomically."""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from study.analysis.claims import NO_VERDICT
from study.analysis.summary import summarize
from study.analysis.traces import Traces
from study.records import StudyRecord
from study.reporting import context, wording
from study.reporting.engine import engine_view
from study.reporting.grid import grid_views
from study.reporting.heat import SHADES, opacity
from study.reporting.palette import arm_colours, css_name, css_variables
from study.reporting.sections import measured_view
from study.reporting.views import KNOB, block_views


def write_report(record: StudyRecord, path: Path, traces: Traces | None = None) -> Path:
    """Write the report to `path`, whole or not at all; a reader never sees half a file. Returns `path`."""
    text = render_report(record, traces)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return path


def render_report(record: StudyRecord, traces: Traces | None = None) -> str:
    """The page as text.

    Args:
        record: the study.
        traces: of its confirm runs along training, from `read_traces`, where it has diagnostics.
    """
    summary = summarize(record)
    colours = arm_colours([cell.arm for cell in record.plan.cells])
    searched, fixed = context.space_rows(record.plan)
    template = _environment().get_template("report.html.j2")
    return template.render(
        record=record,
        summary=summary,
        plan=record.plan,
        answers=wording.answer(summary),
        facts=context.facts(record, summary),
        budget=context.budget(record.plan, record.spec),
        block_rows=context.block_rows(record.plan.blocks),
        searched=searched,
        fixed=fixed,
        views=block_views(record, summary, colours),
        groups=context.trial_groups(record),
        limits=context.limits(record, summary),
        no_verdict=NO_VERDICT,
        search_value_note=wording.SEARCH_VALUE_NOTE,
        study_file=shlex.quote(f"{record.name}.yaml"),
        spec_yaml=context.spec_yaml(record),
        knob=KNOB,
        accuracy=wording.accuracy_text(record.spec),
        further=context.further_heads(summary),
        grid=grid_views(record),
        engine=engine_view(record),
        measured=measured_view(record, summary, traces or {}, colours),
        diagnostics=record.spec.get("diagnostics"),
        shades=[opacity(shade) for shade in range(SHADES)],
        swatches={arm: f"var({css_name(colour)})" for arm, colour in colours.items()},
        light=Markup(css_variables(dark=False)),
        dark=Markup(css_variables(dark=True)),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "value": context.value_text,
        "field": context.field_text,
        "interval": wording.interval_text,
        "difference": wording.difference_text,
        "rate": wording.rate_text,
        "share": wording.share_text,
        "duration": wording.duration_text,
        "block": wording.block_text,
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
        "moment": wording.moment_text,
    }
    return environment
