"""The state of many windows as columns."""


class Columns:
    """Rows are windows."""
