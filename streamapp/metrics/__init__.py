"""Metric samples and their statistics."""
