"""Order amounts by type over all partitions."""

from agents.records import TypeTotals
from app import app

orders_by_type = app.Table(
    "orders_by_type", key_type=str, value_type=TypeTotals, help="Order amounts by type"
)
