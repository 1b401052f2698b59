"""How many change events ended how; and how many columns came without a value."""

from app import app

change_counts = app.Table(
    "change_counts",
    default=int,
    key_type=str,
    value_type=int,
    partitions=1,
    help="Change events by what became of them; unresolved counts columns without a value",
)
