"""Order amounts by type in each partition of the orders: the parts of ``orders_by_type``."""

from app import app
from streamapp.metrics.stats import Moments

orders_by_type_part = app.Table(
    "orders_by_type_part",
    key_type=str,
    value_type=Moments,
    help="Order amounts by type, one row per partition of the orders",
)
