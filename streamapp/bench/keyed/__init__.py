"""Small programs end to end, first of all ``totals[user] += amount``, by several engines.

Each engine's programs are a module of its own, run as a process; it is told what to do in
BENCH_PLAN and tells when it handled its first event and its last one. ``runs`` measures it from
outside over any broker, ``recovery`` how long its table needs to be back; neither believes a rate
before what was written is read back and is right (``results``).
"""
