"""The store in memory is a dict in order, whether few or many keys come and go at once."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from streamapp.state import memory
from streamapp.state.memory import MemoryStore

_KEYS = st.integers(0, 9).map(lambda n: b"k%d" % n)
_CHANGES = st.dictionaries(_KEYS, st.none() | st.binary(max_size=1), max_size=8)
_STEPS = st.lists(st.tuples(_CHANGES, st.sampled_from(["nothing", "scan", "range"])), max_size=12)


@given(_STEPS, st.integers(1, 6))
def test_scans_are_those_of_a_sorted_dict(
    steps: list[tuple[dict[bytes, bytes | None], str]], many: int
) -> None:
    store = MemoryStore()
    model: dict[bytes, bytes] = {}
    with patch.object(memory, "_MANY_KEYS", many):
        for changes, what in steps:
            store.apply(changes)
            model |= {key: value for key, value in changes.items() if value is not None}
            model = {
                key: value for key, value in model.items() if changes.get(key, b"") is not None
            }
            if what == "scan":
                assert [*store.scan(b"k2", b"k7")] == [
                    row for row in sorted(model.items()) if b"k2" <= row[0] < b"k7"
                ]
            if what == "range":
                store.delete_range(b"k2", b"k5")
                model = {key: row for key, row in model.items() if not b"k2" <= key < b"k5"}
            assert store.get(b"k3") == model.get(b"k3")
        assert [*store.scan(b"", b"z")] == sorted(model.items())
    store.close()
