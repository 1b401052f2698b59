"""streamapp: declarative streaming applications in Python."""
