"""Maps of layers along training as compact SVG: nine shades of one colour, one path a shade."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

from study.analysis.courses import LayerMap
from study.reporting.canvas import PANEL, Limits

SHADES = 9
FILL = "var(--arm-0)"
_LEFT, _TOP, _BOTTOM = 6, 14, 30


def opacity(shade: int) -> float:
    """Of a shade, 0 to SHADES - 1."""
    return round(0.08 + 0.92 * shade / (SHADES - 1), 2)


def map_limits(maps: Sequence[LayerMap]) -> Limits | None:
    """The range that several maps share; None where they hold nothing."""
    values = np.concatenate([found.values[np.isfinite(found.values)] for found in maps]) if maps else np.empty(0)
    return (float(values.min()), float(values.max())) if values.size else None


def shades(values: np.ndarray, limits: Limits) -> np.ndarray:
    """The shade of each value on a logarithmic scale, 0 to SHADES - 1; -1 where there is none."""
    low, high = np.log(limits[0]), np.log(limits[1])
    with np.errstate(invalid="ignore"):
        place = (np.log(values) - low) / (high - low) if high > low else np.full(values.shape, 0.5)
        place = np.where(np.isfinite(values), np.clip(place, 0, 1) * SHADES, -1)
    return np.minimum(np.floor(place), SHADES - 1).astype(int)


def map_svg(found: LayerMap, limits: Limits, label: str) -> Markup:
    """The map, first layer on top, training to the right; each row names its layer to whoever points at it."""
    width, height = PANEL
    rows, columns = found.values.shape
    wide, high = (width - 2 * _LEFT) / columns, (height - _TOP - _BOTTOM) / rows
    of = shades(found.values, limits)
    parts = [
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}">'
        f'<g transform="translate({_LEFT} {_TOP}) scale({wide:.4f} {high:.4f})" shape-rendering="crispEdges">'
    ]
    for shade in range(SHADES):
        path = "".join(
            f"M{start} {row}h{length}v1h-{length}z"
            for row in range(rows)
            for start, length in _stretches(of[row] == shade)
        )
        if path:
            parts.append(f'<path d="{path}" fill="{FILL}" fill-opacity="{opacity(shade)}"/>')
    parts += [
        f'<rect y="{row}" width="{columns}" height="1" fill="none" pointer-events="all">'
        f"<title>{escape(name)}</title></rect>"
        for row, name in enumerate(found.names)
    ]
    parts.append("</g>")
    bottom = height - _BOTTOM
    for x, y, anchor, colour, text in (
        (_LEFT, _TOP - 4, "start", "muted", found.names[0]),
        (_LEFT, bottom + 11, "start", "muted", found.names[-1] if rows > 1 else ""),
        (width - _LEFT, bottom + 11, "end", "muted", f"{found.epochs:g}"),
        (width / 2, height - 4, "middle", "ink", "Epoch"),
    ):
        parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="var(--{colour})" font-size="9.5">'
            f"{escape(text)}</text>"
        )
    return Markup("".join([*parts, "</svg>"]))


def _stretches(marked: np.ndarray) -> list[tuple[int, int]]:
    """Where runs of true begin, and how long they are."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(int), [0]])))
    return [(int(start), int(end - start)) for start, end in zip(edges[::2], edges[1::2], strict=True)]
