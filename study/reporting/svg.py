"""A matplotlib figure as compact inline SVG that takes its font and its colours from the page around it."""

from __future__ import annotations

import io
import re

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from study.reporting.palette import css_name, palette

_SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "study", "path.simplify_threshold": 0.3}


def to_svg(figure: Figure, label: str) -> Markup:
    """The figure as an `<svg>` element with `label` as its text alternative; the page decides how wide it is."""
    buffer = io.StringIO()
    with mpl.rc_context(_SETTINGS):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = _without_unused_ids(text)
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d{2})\d+", r"\1", tag.group(0)), text)
    text = re.sub(r" font-family: [^;\"]*;", "", text)
    text = re.sub(r"\s*\n\s*", "\n", text)
    for colour in palette():
        text = text.replace(colour, f"var({css_name(colour)})")
    width, height = (72 * side for side in figure.get_size_inches())
    opening = f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width:g} {height:g}">'
    return Markup(opening + text[text.index(">") + 1 :].strip())


def _without_unused_ids(text: str) -> str:
    used = set(re.findall(r"(?:xlink:href=\"#|url\(#)([^\")]+)", text))
    return re.sub(r' id="([^"]*)"', lambda match: match.group(0) if match.group(1) in used else "", text)
