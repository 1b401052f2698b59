"""The position of the last truncate of each replicated table."""

from app import app
from streamapp.cdc.position import Position

truncates = app.Table(
    "truncates",
    key_type=str,
    value_type=Position,
    partitions=1,
    help="Position of the last truncate, by replicated table",
)
