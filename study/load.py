"""Reading a study file: shipped name or path, dotted overrides, and one clear sentence for what is wrong with it."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Hashable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from study.errors import StudyError, nearest, shown
from study.names import DEFAULT_STUDY
from study.spec import Spec

SHIPPED = Path(__file__).parent / "studies"
LARGEST_STUDY_FILE_BYTES = 1 << 20


class _Loader(yaml.SafeLoader):
    """Safe YAML with the plain values of YAML 1.2 (1e-3 is a number, `no` and 2001-01-01 are words) and unique keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == f"{_TAG}merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands twice", key_node.start_mark
                )
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


_TAG = "tag:yaml.org,2002:"
_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")
_YAML_1_2 = (  # what a plain word must look like to be no text, and its first letters
    ("bool", r"^(true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?[0-9]+$|^0o[0-7]+$|^0x[0-9a-fA-F]+$", "-+0123456789"),
    (
        "float",
        r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$",
        "-+0123456789.",
    ),
)
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix(_TAG) in _PLAIN
} | {f"{_TAG}int": _construct_int}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regex) for tag, regex in resolvers if tag in (f"{_TAG}null", f"{_TAG}merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind_of_word, _pattern, _first in _YAML_1_2:
    _Loader.add_implicit_resolver(f"{_TAG}{_kind_of_word}", re.compile(_pattern), list(_first))


def shipped_studies() -> dict[str, Path]:
    """Name -> path of the studies that come with the package."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def load_study(study: str | Path = DEFAULT_STUDY, overrides: Sequence[str] = ()) -> Spec:
    """Read a study: a shipped name or the path of a YAML file, with `key.path=value` overrides applied in order.

    Raises:
        StudyError: no such study, unreadable YAML, an unknown key, a value of the wrong type or outside its range.
    """
    path = _find(str(study))
    data = _read(path)
    if not isinstance(data, dict):
        raise StudyError(f"{path}: a study file is a mapping of keys to values, but this one holds {_kind(data)}")
    for override in overrides:
        _apply(data, override)
    return validate(data, where=str(study))


def validate(data: dict[Any, Any], where: str) -> Spec:
    """Plain data as a `Spec`; pydantic's findings become one sentence about the first."""
    try:
        return Spec.model_validate(data)
    except ValidationError as error:
        raise StudyError(f"{where}: {_sentence(error)}") from None


def _find(study: str) -> Path:
    shipped = shipped_studies()
    if study in shipped:
        return shipped[study]
    path = Path(study)
    if path.suffix in (".yaml", ".yml") or os.path.exists(path):  # Path.exists raises where a name is too long
        if os.path.isfile(path):
            return path
        what = "is no file to read" if os.path.exists(path) else "does not exist"
        if os.path.isdir(path):
            what = "is a folder, not a study file"
        raise StudyError(f"the study file {path.absolute()} {what}; give a path to a YAML file, or a name from --list")
    if "=" in study:
        raise StudyError(f"'{study}' looks like an override without a path before the '='; write key.path=value")
    raise StudyError(f"unknown study {shown(study)}; {nearest(study, shipped)} (a path to a file ends in .yaml)")


def _read(path: Path) -> Any:
    try:
        if path.stat().st_size > LARGEST_STUDY_FILE_BYTES:
            raise StudyError(f"{path}: a study file is at most 1 MiB; this one has {path.stat().st_size} bytes")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    except UnicodeDecodeError as error:
        raise StudyError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    return _parse(text, str(path))


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.constructor.ConstructorError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        problem = str(error.problem)
        if "could not determine a constructor" in problem:
            problem = "YAML tags that build Python objects are refused; use plain values"
        raise StudyError(f"{where}, line {line}: {problem}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = error.problem or error.context or "it does not parse"
        raise StudyError(f"{where}{place}: unreadable YAML ({problem}); mend that line") from None
    except yaml.YAMLError as error:
        raise StudyError(f"{where}: unreadable YAML ({str(error).splitlines()[0]})") from None
    except (ValueError, LookupError) as error:  # of Python's own int() and float()
        raise StudyError(f"{where}: unreadable YAML ({str(error).split(';')[0]})") from None
    except RecursionError:
        raise StudyError(f"{where}: unreadable YAML (nested too deeply)") from None


def _apply(data: dict[Any, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    keys = path.split(".")
    if not separator or not all(keys):
        raise StudyError(f"the override '{override}' must read key.path=value, for example search.trials=12")
    value = _parse(text, f"the override '{override}'")
    place: Any = data
    # Containers on the way are copied: a YAML alias may have put the same one elsewhere too.
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(place, list):
            if not key.isdecimal() or int(key) >= len(place):
                raise StudyError(f"the override '{override}': '{key}' is no position in a list of {len(place)}")
            place[int(key)] = value if last else copy(place[int(key)])
            place = place[int(key)]
        elif isinstance(place, dict):
            place[key] = value if last else copy(place.get(key, {}))
            place = place[key]
        else:
            raise StudyError(
                f"the override '{override}': '{'.'.join(keys[:depth])}' is a plain value, it has no '{key}'"
            )


_MAPPING = re.compile(r"valid dictionary( or instance of \w+)?")  # pydantic's word for it, with our class's name


def _sentence(error: ValidationError) -> str:
    details = error.errors(include_url=False)
    # In a union every branch complains; the one that went deepest is about what the user wrote.
    first = max(details, key=lambda item: len(item["loc"]) if _in_union(details, item) else 0)
    if not _in_union(details, first):
        first = details[0]
    place = ".".join(str(part) for part in first["loc"] if not _is_branch(part))
    kind, given = first["type"], first.get("input")
    if kind == "extra_forbidden":
        return f"unknown key '{place}'{_similar_key(first['loc'])}"
    if kind == "missing":
        return f"'{place}' is missing; add it"
    if kind == "value_error":
        message = str(first["ctx"]["error"]) if "ctx" in first else first["msg"]
        return message if not place or message.startswith(("space.", "claim ")) else f"{place}: {message}"
    if place == "name" and kind == "string_pattern_mismatch":
        return (
            f"name must be letters, digits, '_', '-' or '.', begin with a letter or digit and have at most 64 of them "
            f"(it names a folder), but got {shown(given)}"
        )
    also = {str(item["msg"]) for item in details if _place(item) == place}
    expected = " or ".join(sorted(_MAPPING.sub("mapping of keys to values", m[0].lower() + m[1:]) for m in also))
    return f"{place}: {expected}, but got {shown(given)}"


def _place(item: Any) -> str:
    return ".".join(str(part) for part in item["loc"] if not _is_branch(part))


def _in_union(details: Any, item: Any) -> bool:
    return any(other is not item and _place(other) == _place(item) for other in details) or any(
        _is_branch(part) for part in item["loc"]
    )


def _is_branch(part: object) -> bool:
    """pydantic names the branch of a union in an error's place: 'DataSpec', 'list[DataSpec]', \"literal['auto']\"."""
    return isinstance(part, str) and (
        part.endswith(("Spec", "]", ")")) or part in ("int", "float", "str", "constrained-int", "constrained-float")
    )


def _similar_key(loc: Sequence[object]) -> str:
    model: Any = Spec
    for part in loc[:-1]:
        if not isinstance(part, str) or _is_branch(part):
            continue
        field = getattr(model, "model_fields", {}).get(part)
        annotation = field.annotation if field else None
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next((c for c in candidates if hasattr(c, "model_fields")), None)
    known = list(getattr(model, "model_fields", {}))
    close = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known there: {', '.join(known)}" if known else ""


def _kind(data: object) -> str:
    return "nothing" if data is None else f"a {type(data).__name__}"
