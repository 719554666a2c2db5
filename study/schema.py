"""JSON Schema of the study file, for editors: completion, descriptions and red underlines while you type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from search_spaces import ARM_SPACES
from search_spaces.catalog import DATA, INITIALIZATIONS, MODELS, TASKS
from search_spaces.knobs import KNOBS
from study.spec import Spec

_OWN_CODE = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$"}  # module:factory


def study_schema() -> dict[str, Any]:
    """The schema (draft 2020-12). Rules that join several keys are checked by `study.run --dry-run` alone."""
    schema = Spec.model_json_schema()
    sections = schema["$defs"]
    schema["properties"]["arms"]["items"] = _one_of(ARM_SPACES)
    schema["properties"]["task"] = {
        **schema["properties"]["task"],
        "anyOf": [_one_of(TASKS), {"$ref": "#/$defs/TaskSpec"}],
    }
    sections["DataSpec"]["properties"]["name"] |= _one_of(DATA)
    sections["ModelSpec"]["properties"]["name"] |= _one_of(MODELS)
    sections["TrainSpec"]["properties"]["init"] |= {"enum": list(INITIALIZATIONS)}
    # Ranges and choices are checked by the command: an editor can say which names there are and what they take.
    schema["properties"]["space"]["propertyNames"] = _one_of(["all", *ARM_SPACES])
    schema["properties"]["space"]["additionalProperties"] = {
        "type": "object",
        "properties": {knob: {"description": f"{knob} takes {rule.rule()}"} for knob, rule in KNOBS.items()},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "A study file of large-batch-study",
    }


def schema_text() -> str:
    """The schema as JSON text."""
    return json.dumps(study_schema(), indent=2)


def _one_of(names: Mapping[str, object] | list[str]) -> dict[str, Any]:
    """A known name, or code of one's own as module:factory."""
    return {"type": "string", "anyOf": [{"enum": list(names)}, _OWN_CODE]}
