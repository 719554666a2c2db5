import dataclasses
import doctest
import importlib
import inspect

import pytest

import optim

THINGS = {name: getattr(optim, name) for name in optim.__all__}
# all that can be called, but for plain records
PUBLIC_WITH_EXAMPLE = sorted(
    name
    for name, thing in THINGS.items()
    if inspect.isfunction(thing) or (inspect.isclass(thing) and not dataclasses.is_dataclass(thing))
)


@pytest.mark.parametrize("name", PUBLIC_WITH_EXAMPLE)
def test_the_example_in_the_docstring_runs(name):
    thing = getattr(optim, name)
    module = importlib.import_module(thing.__module__)
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(thing, name, module=module, globs=dict(vars(module)))
    assert example.examples, "no example"
    report = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example)
    assert report.failed == 0


def test_every_public_name_says_what_it_is():
    for name in optim.__all__:
        thing = getattr(optim, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), name
