"""Where the demo goes on after a restart."""

from app import app

demo_cursor = app.Table(
    "demo_cursor",
    default=int,
    key_type=str,
    value_type=int,
    partitions=1,
    help="Number of the demo's next event",
)
