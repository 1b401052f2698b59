"""Change data capture: rows out of database change events."""
