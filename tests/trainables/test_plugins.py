"""Objects named `module:name`: found, or refused in one sentence that says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

import pytest

from trainables.config import ConfigError
from trainables.plugins import is_reference, load_object

Write = Callable[[str], str]


def test_is_reference() -> None:
    assert is_reference("a.b:c")
    assert not is_reference("resnet8")


def test_finds_classes_functions_and_modules_of_packages(write_module: Write) -> None:
    assert load_object("fractions:Fraction", what="task") is Fraction
    assert load_object("os.path:join", what="arm")("a", "b") == "a/b"
    assert load_object(f"{write_module('def two(): return 2')}:two", what="model")() == 2


@pytest.mark.parametrize("reference", ["a:", ":b", "a:b:c", "a b:c", "./a:b", "a.py:1b", ".a:b", "a..b:c", "a:b.c"])
def test_malformed(reference: str) -> None:
    with pytest.raises(ConfigError, match=f"^model must read module:name, .* but got {re.escape(repr(reference))}$"):
        load_object(reference, what="model")


@pytest.mark.parametrize(
    ("reference", "missing"), [("nosuch:x", "nosuch"), ("nosuch.deep:x", "nosuch"), ("fractions.deep:x", None)]
)
def test_no_such_module(reference: str, missing: str | None) -> None:
    sought = missing or reference.split(":")[0]
    with pytest.raises(ConfigError, match=rf"^task '{reference}': Python finds no module '{sought}'; .* PYTHONPATH$"):
        load_object(reference, what="task")


@pytest.mark.parametrize(
    ("source", "attribute", "message"),
    [
        ("def tiny_net(): ...", "tinynet", r"{name}\.py has no 'tinynet'; did you mean 'tiny_net'\?"),
        ("def f(): ...", "quite_other", r"{name}\.py has no 'quite_other'$"),
        ("value = 3", "value", "must be a class or a function, but is of type int"),
        ("import not_installed_here", "f", "{name} imports 'not_installed_here', which is not installed"),
        ("def f(:", "f", "importing {name} raised SyntaxError: invalid syntax"),
        ("1 / 0", "f", "importing {name} raised ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_wrong_with_a_module(source: str, attribute: str, message: str, write_module: Write) -> None:
    name = write_module(source)
    with pytest.raises(ConfigError, match=message.format(name=name)) as caught:
        load_object(f"{name}:{attribute}", what="model")
    assert str(caught.value).startswith(f"model '{name}:{attribute}'")
    assert "\n" not in str(caught.value)
