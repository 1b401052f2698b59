"""The application's tables: one declaration per file, no logic."""
