"""A keyed table end to end: ``totals[user] += amount``, by several engines over one broker.

Each engine's program is a module of its own, run as a process; it is told what to do in BENCH_PLAN
and tells when it handled its first event and its last one. ``runs`` measures it from outside and
believes no rate before the engine's changelog holds the right total of every user.
"""
