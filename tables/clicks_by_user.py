"""Page views by user."""

from app import app

clicks_by_user = app.Table(
    "clicks_by_user", default=int, key_type=str, value_type=int, help="Page views by user"
)
