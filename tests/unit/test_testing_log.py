"""A partition in memory: what is put in, sent, read, and let go."""

from __future__ import annotations

from streamapp.core.batch import TP, OutRecord
from streamapp.testing.log import Log

_TP = TP("in", 0)


def _log() -> Log:
    log = Log(_TP)
    log.put([b"0", b"1", b"2"], None, [5, 6, 7])
    log.extend([OutRecord(_TP, b"k", b"3", 8, (("h", b"x"),)), OutRecord(_TP, None, None, 9)])
    return log


def test_what_was_put_and_what_was_sent_are_one_log() -> None:
    log = _log()
    batch = log.since(1)
    assert batch is not None
    assert (*batch.offsets,) == (1, 2, 3, 4)
    assert (*batch.values,) == (b"1", b"2", b"3", None)
    assert (*batch.timestamps,) == (6, 7, 8, 9)
    assert batch.headers is not None
    assert (*batch.headers,) == ((), (), (("h", b"x"),), ())
    assert batch.next_offset == 5
    assert log.since(5) is None
    assert [record.value for record in log.records()] == [b"0", b"1", b"2", b"3", None]
    assert log.records()[3] == OutRecord(_TP, b"k", b"3", 8, (("h", b"x"),))


def test_pieces_are_let_go_once_all_of_them_was_read() -> None:
    log = _log()
    log.forget(2)
    assert len(log.records()) == 5
    log.forget(4)
    assert [record.value for record in log.records()] == [b"3", None]
    rest = log.since(4)
    assert rest is not None
    assert (*rest.offsets,) == (4,)
    log.forget(5)
    assert log.records() == []
    log.put([b"5"], None, None)
    assert [record.value for record in log.records()] == [b"5"]
    assert log.since(5) is not None
