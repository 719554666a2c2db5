"""The sections of a study file, each a small typed model; `study.spec` puts them together."""

from study.sections.base import Strict, one_of
from study.sections.budget import BudgetSpec
from study.sections.claims import ClaimSpec
from study.sections.diagnostics import DiagnosticsSpec
from study.sections.replay import ReplaySpec
from study.sections.resources import ResourcesSpec
from study.sections.search import ConfirmSpec, EarlyStoppingSpec, SearchSpec, WarmStartSpec
from study.sections.train import DataSpec, ModelSpec, TaskSpec, TrainSpec

__all__ = [
    "BudgetSpec",
    "ClaimSpec",
    "ConfirmSpec",
    "DataSpec",
    "DiagnosticsSpec",
    "EarlyStoppingSpec",
    "ModelSpec",
    "ReplaySpec",
    "ResourcesSpec",
    "SearchSpec",
    "Strict",
    "TaskSpec",
    "TrainSpec",
    "WarmStartSpec",
    "one_of",
]
