"""Joins of two streams, and of a stream with a table."""

from streamapp.operators.join_asof import AsOfJoin
from streamapp.operators.join_base import JoinKind, Pair, StreamJoin, pair_type
from streamapp.operators.join_state import Codec, join_view
from streamapp.operators.join_table import TableJoin
from streamapp.operators.join_window import WindowJoin

__all__ = [
    "AsOfJoin",
    "Codec",
    "JoinKind",
    "Pair",
    "StreamJoin",
    "TableJoin",
    "WindowJoin",
    "join_view",
    "pair_type",
]
