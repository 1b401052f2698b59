"""Aggregates of windows: their state row by row, and as columns of many windows at once."""

from streamapp.core.aggregates.aggregate_set import AggregateSet
from streamapp.core.aggregates.columns import Columns
from streamapp.core.aggregates.inputs import Inputs
from streamapp.core.aggregates.layout import Acc
from streamapp.core.aggregates.parts import Aggregate
from streamapp.core.aggregates.program import AddError
from streamapp.core.aggregates.values import Field, InputsError

__all__ = [
    "Acc",
    "AddError",
    "Aggregate",
    "AggregateSet",
    "Columns",
    "Field",
    "Inputs",
    "InputsError",
]
