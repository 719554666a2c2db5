from study.reporting.palette import arm_colours, css_name, css_variables, palette


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def variables(dark: bool) -> dict[str, str]:
    pairs = (entry.split(":") for entry in css_variables(dark).split(";") if entry.strip())
    return {name.strip(): value.strip() for name, value in pairs}


def test_an_arm_keeps_its_colour_and_twelve_differ() -> None:
    arms = [f"arm{i}" for i in range(13)]
    colours = arm_colours(arms)
    assert len(set(list(colours.values())[:12])) == 12
    assert colours["arm12"] == colours["arm0"]
    assert arm_colours(["a", "b", "a"]) == arm_colours(["a", "b"])


def test_arms_and_text_are_legible_in_both_modes() -> None:
    for dark in (False, True):
        shown = variables(dark)
        paper = shown["--paper"]
        assert contrast(shown["--ink"], paper) >= 12
        assert contrast(shown["--muted"], paper) >= 4.5
        for name, colour in shown.items():
            if name.startswith("--arm") or name == "--alarm":
                assert contrast(colour, paper) >= 3, (name, dark)


def test_every_colour_has_a_variable_and_no_other_has() -> None:
    names = [css_name(colour) for colour in palette()]
    assert len(set(names)) == len(names)
    assert set(names) == set(variables(dark=True))
    assert css_name("#123456") is None
