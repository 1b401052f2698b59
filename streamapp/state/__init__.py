"""Local durability: rows in memory over a store, their changelog, checkpoints."""
