"""Declared pipelines: the words, the plan that they make, and one partition of it at work."""
