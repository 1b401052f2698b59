"""The replica of the shop's customers; a deleted row keeps its position."""

from app import app
from streamapp.cdc.replica import RowState

customers = app.Table(
    "customers",
    key_type=str,
    value_type=RowState,
    partitions=1,
    help="Replica of shop.public.customers by primary key; row is null after a delete",
)
