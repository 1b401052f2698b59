"""Read-only views of a worker over HTTP."""
