"""The facts that a study keeps of itself in study.json: its spec and lock, its sessions' cost, its versions."""

from __future__ import annotations

import datetime
import platform
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from study.meter import Usage
from study.plan import Plan
from study.spec import Spec

_PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow", "numpy", "scikit-learn")


def first_facts(spec: Spec, plan: Plan) -> dict[str, Any]:
    """What is known when a study is begun."""
    return {
        "spec": spec.to_dict(),
        "spec_hash": plan.spec_hash,
        "id": uuid.uuid4().hex,
        "started_at": now_text(),
        "versions": _versions(),
        "sessions": [],
    }


def with_additions(facts: Mapping[str, Any], spec: Spec, plan: Plan, added: Sequence[str]) -> dict[str, Any]:
    """The facts of a study that was extended after its lock; the lock that it had is kept beside what was added."""
    entry = {"at": now_text(), "what": list(added), "spec_hash": facts["spec_hash"]}
    changed = {**facts, "spec": spec.to_dict(), "spec_hash": plan.spec_hash, "added": [*facts.get("added", []), entry]}
    changed.pop("reported", None)
    return changed


def added_after_lock(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """What was added after the lock, a phrase each, with its date."""
    return tuple(f"{what} ({entry['at'][:10]})" for entry in facts.get("added", []) for what in entry["what"])


def session_facts(usage: Usage, device_seconds: Mapping[str, float]) -> dict[str, Any]:
    """What one session has cost so far."""
    return {
        "wall_seconds": round(usage.wall_seconds, 1),
        "cpu_seconds": round(usage.cpu_seconds, 1),
        "peak_memory_bytes": usage.peak_memory_bytes,
        "device_seconds": dict(device_seconds),
    }


def now_text() -> str:
    """The present moment, ISO 8601 with time zone."""
    return datetime.datetime.now(datetime.UTC).astimezone().isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "large-batch-study": _own_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _own_version() -> str:
    """The package's version and, from a checkout, its commit."""
    try:
        version = metadata.version("large-batch-study")
    except metadata.PackageNotFoundError:
        version = "unknown"
    try:
        folder = Path(__file__).parent
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
        return f"{version} ({described.stdout.strip()})"
    except (OSError, subprocess.SubprocessError):
        return version
