"""The sections of a study file, each a small typed model; `study.spec` puts them together."""

from study.sections.base import Strict, one_of
from study.sections.claims import ClaimSpec
from study.sections.resources import ResourcesSpec
from study.sections.search import ConfirmSpec, EarlyStoppingSpec, SearchSpec
from study.sections.train import DataSpec, ModelSpec, TrainSpec

__all__ = [
    "ClaimSpec",
    "ConfirmSpec",
    "DataSpec",
    "EarlyStoppingSpec",
    "ModelSpec",
    "ResourcesSpec",
    "SearchSpec",
    "Strict",
    "TrainSpec",
    "one_of",
]
