"""Reading a study file: shipped name or path, dotted overrides, and one clear sentence for whatever is wrong with it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from study.errors import StudyError, nearest
from study.spec import Spec

SHIPPED = Path(__file__).parent / "studies"
DEFAULT_STUDY = "digits-warmup"
LARGEST_STUDY_FILE_BYTES = 1 << 20


class _Loader(yaml.SafeLoader):
    """Safe YAML whose numbers and truth values are those of YAML 1.2 (1e-3 is a number, `no` is a word), keys unique."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands twice", key_node.start_mark
                )
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, regex) for tag, regex in resolvers if tag not in ("tag:yaml.org,2002:float", "tag:yaml.org,2002:bool")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


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
    if path.suffix in (".yaml", ".yml") or path.exists():
        if path.is_file():
            return path
        what = "is a folder, not a study file" if path.is_dir() else "does not exist"
        raise StudyError(f"the study file {path.absolute()} {what}; give a path to a YAML file, or a name from --list")
    if "=" in study:
        raise StudyError(f"'{study}' looks like an override without a path before the '='; write key.path=value")
    raise StudyError(f"unknown study '{study}'; {nearest(study, shipped)} (a path to a file ends in .yaml)")


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
    except RecursionError:
        raise StudyError(f"{where}: unreadable YAML (nested too deeply)") from None


def _apply(data: dict[Any, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    keys = path.split(".")
    if not separator or not all(keys):
        raise StudyError(f"the override '{override}' must read key.path=value, for example search.trials=12")
    value = _parse(text, f"the override '{override}'")
    place: Any = data
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(place, list):
            if not key.isdigit() or int(key) >= len(place):
                raise StudyError(f"the override '{override}': '{key}' is no position in a list of {len(place)}")
            if last:
                place[int(key)] = value
            else:
                place = place[int(key)]
        elif isinstance(place, dict):
            if last:
                place[key] = value
            else:
                place = place.setdefault(key, {})
        else:
            raise StudyError(
                f"the override '{override}': '{'.'.join(keys[:depth])}' is a plain value, it has no '{key}'"
            )


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
            f"(it names a folder), but got {given!r}"
        )
    also = {str(item["msg"]) for item in details if _place(item) == place}
    expected = " or ".join(sorted(message[0].lower() + message[1:] for message in also))
    return f"{place}: {expected}, but got {given!r}"


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
