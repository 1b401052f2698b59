"""The ``streamapp`` command."""
