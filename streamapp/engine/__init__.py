"""The only place with tasks: fetch, delivery, streams, commit, recovery, rejects."""
