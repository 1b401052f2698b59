"""Alert rules and the states of alerts: pure rules plus thin adapters."""
