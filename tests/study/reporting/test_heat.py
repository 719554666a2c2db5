import re

import numpy as np
import pytest

from study.analysis.courses import LayerMap
from study.reporting.heat import SHADES, map_limits, map_svg, opacity, shades


def test_shades_are_even_on_a_logarithmic_scale() -> None:
    limits = (1.0, 10.0**SHADES)
    values = np.array([10.0**power for power in np.arange(0.5, SHADES)])
    assert shades(values, limits).tolist() == list(range(SHADES))
    assert shades(np.array([1.0, 10.0**SHADES, np.nan]), limits).tolist() == [0, SHADES - 1, -1]
    assert shades(np.array([5.0, np.nan]), (5.0, 5.0)).tolist() == [SHADES // 2, -1]
    assert (opacity(0), opacity(SHADES - 1)) == (0.08, 1.0)


def test_limits_are_shared() -> None:
    maps = [LayerMap(("a",), np.array([[2.0, np.nan]]), 1), LayerMap(("a",), np.array([[8.0]]), 1)]
    assert map_limits(maps) == (2.0, 8.0)
    assert map_limits([]) is None
    assert map_limits([LayerMap(("a",), np.array([[np.nan]]), 1)]) is None


def test_every_value_is_drawn_once_in_its_place() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(1, 100, (5, 7))
    values[2, 3] = np.nan
    svg = map_svg(LayerMap(tuple("abcde"), values, 20), (1.0, 100.0), "a <map>")
    expected = shades(values, (1.0, 100.0))
    seen = np.full(values.shape, -1)
    for path, alpha in re.findall(r'<path d="([^"]+)"[^>]*fill-opacity="([\d.]+)"', svg):
        shade = next(shade for shade in range(SHADES) if opacity(shade) == float(alpha))
        for column, row, length in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\3z", path):
            place = int(row), slice(int(column), int(column) + int(length))
            assert (seen[place] == -1).all()
            seen[place] = shade
    np.testing.assert_array_equal(seen, expected)
    # each unit is a part of the width and of the height that the margins leave
    assert f"translate(6 14) scale({288 / 7:.4f} {(205 - 44) / 5:.4f})" in svg
    assert "a &lt;map&gt;" in svg
    assert re.findall(r"<title>(\w)</title>", svg) == list("abcde")


@pytest.mark.parametrize("shape", [(1, 1), (48, 48)])
def test_maps_stay_small(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).uniform(1, 100, shape)
    svg = map_svg(LayerMap(("layer",) * shape[0], values, 5), (1.0, 100.0), "map")
    assert len(svg) < 40_000
    assert "<image" not in svg
