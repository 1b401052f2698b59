"""Alerts that are pending, fire or have fired, by fingerprint."""

from app import app
from streamapp.alerts.states import AlertState

alert_states = app.Table(
    "alert_states", key_type=str, value_type=AlertState, help="Alerts by fingerprint"
)
