import re
import xml.etree.ElementTree as ET

from matplotlib.figure import Figure

from study.reporting.palette import INK, arm_colours
from study.reporting.svg import to_svg


def drawn(text: str = "0.0001 <b>", colour: str = INK) -> str:
    figure = Figure(figsize=(3, 2), dpi=72)
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    axes.plot([0, 1.23456789], [0, 1], "o-", color=colour)
    axes.text(0.5, 0.5, text, color=INK)
    return to_svg(figure, 'a "label" & <more>')


def test_it_is_well_formed_and_labelled() -> None:
    svg = drawn()
    root = ET.fromstring(svg.replace("xlink:href", "href"))
    assert root.tag == "svg"
    assert root.get("aria-label") == 'a "label" & <more>'
    assert root.get("viewBox") == "0 0 216 144"
    assert root.get("width") is None


def test_text_is_kept_as_it_is_and_coordinates_are_short() -> None:
    svg = drawn()
    assert ">0.0001 &lt;b&gt;</text>" in svg
    assert not any(re.search(r"\d\.\d{3,}", tag) for tag in re.findall(r"<[^>]*>", svg))


def test_colours_come_from_the_page() -> None:
    colour = arm_colours(["x", "y"])["y"]
    svg = drawn(colour=colour)
    assert colour not in svg
    assert INK not in svg
    assert "var(--arm-1)" in svg
    assert "var(--ink)" in svg


def test_nothing_is_loaded_and_no_id_is_left_over() -> None:
    svg = drawn()
    for name in re.findall(r' id="([^"]+)"', svg):
        assert f"#{name}" in svg
    assert "font-family" not in svg
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', svg))


def test_the_same_figure_gives_the_same_text() -> None:
    assert drawn() == drawn()
