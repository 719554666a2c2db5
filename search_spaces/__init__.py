"""Search spaces as data: typed dimensions, one named space an arm, and torch-free tables of names."""

from search_spaces.arms import ARM_SPACES, SLOW_START_KNOBS
from search_spaces.dimensions import Choice, Condition, Dimension, Float, Int, Space, SpaceError, Value, applies

__all__ = [
    "ARM_SPACES",
    "SLOW_START_KNOBS",
    "Choice",
    "Condition",
    "Dimension",
    "Float",
    "Int",
    "Space",
    "SpaceError",
    "Value",
    "applies",
]
