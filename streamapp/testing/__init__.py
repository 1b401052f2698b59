"""Tools for tests of applications."""
