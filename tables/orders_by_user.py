"""Order amounts by user."""

from app import app
from streamapp.metrics.stats import Moments

orders_by_user = app.Table(
    "orders_by_user", key_type=str, value_type=Moments, help="Order amounts by user"
)
