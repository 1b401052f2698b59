"""External targets; one module each."""
