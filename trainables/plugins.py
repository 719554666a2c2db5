"""The user's own models, tasks and arms: objects named `module:name`, imported as Python imports.

The one file that imports names which only show when it runs.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

from trainables.config import ConfigError

_REFERENCE = re.compile(r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<attribute>[^\W\d]\w*)")


def is_reference(name: str) -> bool:
    """Whether a name means an object of the user's: only those have a colon."""
    return ":" in name


def load_object(reference: str, *, what: str) -> Callable[..., Any]:
    """The class or function that `module:name` names.

    The module is found as any import is: in the folder that Python was started in with `-m`, on PYTHONPATH, or
    installed. `what` says in errors what it is to be, as in `model`.

    Raises:
        ConfigError: the reference is malformed, there is no such module or name in it, the module cannot be imported,
            or what is named cannot be called.
    """
    parts = _REFERENCE.fullmatch(reference)
    if parts is None:
        raise ConfigError(f"{what} must read module:name, as in my_package.my_module:name, but got {reference!r}")
    where = f"{what} {reference!r}"
    module = _module(parts["module"], where)
    attribute = parts["attribute"]
    if not hasattr(module, attribute):
        near = difflib.get_close_matches(attribute, [name for name in vars(module) if not name.startswith("_")], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{where}: {module.__file__ or module.__name__} has no {attribute!r}{hint}")
    found = getattr(module, attribute)
    if not callable(found):
        raise ConfigError(f"{where} must be a class or a function, but is of type {type(found).__name__}")
    return found


def in_short(error: Exception) -> str:
    """Kind and first line of what the user's code raised: the rest is in the chained traceback."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _module(name: str, where: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"{where}: Python finds no module {error.name!r}; start from the folder that holds it, or put that "
                "folder on PYTHONPATH"
            ) from error
        raise ConfigError(f"{where}: {name} imports {error.name!r}, which is not installed") from error
    except Exception as error:
        raise ConfigError(f"{where}: importing {name} raised {in_short(error)}") from error
