"""Ours and the baselines: each a module with ``make``, in its engine's fairest form, and short.

``make(scenario, events)`` returns the ``Program`` of a scenario; only its ``work`` is measured. It
raises ``KeyError`` for a scenario that the engine has no words for.
"""
