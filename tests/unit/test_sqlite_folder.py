"""Opening a bus: the folder, its version, and what cannot be opened."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from streamapp.errors import BrokerError, BrokerFullError, BrokerUnavailableError, ConfigError
from streamapp.transport.connect import open_broker
from streamapp.transport.memory import MemoryBroker
from streamapp.transport.sqlite import SqliteBroker
from streamapp.transport.sqlite.faults import from_sqlite, from_system
from streamapp.transport.sqlite.schema import file_system

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /proc rw - proc proc rw
40 22 0:40 / /mnt/share rw,relatime shared:9 - nfs4 host:/export rw,vers=4.2
41 40 0:41 / /mnt/share/local\\040disk rw - xfs /dev/vdb rw
42 22 0:42 / /over rw - ext4 /dev/vdc rw
43 22 0:43 / /over rw - cifs //host/over rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/data", "ext4"),
        ("/mnt/share/bus", "nfs4"),
        ("/mnt/shared", "ext4"),
        ("/mnt/share/local disk/bus", "xfs"),
        ("/over/bus", "cifs"),
    ],
)
def test_file_system_is_that_of_the_deepest_and_latest_mount(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind


def test_folder_is_made_with_its_parents_and_its_version(tmp_path: Path) -> None:
    SqliteBroker(tmp_path / "a" / "b").close()
    assert (tmp_path / "a" / "b" / "FORMAT").read_text() == "1\n"


def test_newer_version_is_refused(tmp_path: Path) -> None:
    SqliteBroker(tmp_path).close()
    (tmp_path / "FORMAT").write_text("2\n")
    with pytest.raises(BrokerUnavailableError, match="version '2'"):
        SqliteBroker(tmp_path)


def test_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerUnavailableError, match="local disk") as caught:
        SqliteBroker(tmp_path / "file")
    assert caught.value.hint
    with pytest.raises(BrokerUnavailableError):
        SqliteBroker(tmp_path / "file" / "below")


def test_folder_where_nothing_can_be_made_is_refused() -> None:
    with pytest.raises(BrokerUnavailableError):
        SqliteBroker(Path("/proc/self/bus"))


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    SqliteBroker(tmp_path).close()
    (tmp_path / "bus.db").write_bytes(b"not a database " * 1_000)
    with pytest.raises(BrokerError, match="damaged"):
        SqliteBroker(tmp_path)


def test_locked_database_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamapp.transport.sqlite.schema.BUSY_TIMEOUT_S", 0.01)
    SqliteBroker(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "bus.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BrokerUnavailableError, match="close it"):
            SqliteBroker(tmp_path)


def test_many_may_make_the_folder_at_once(tmp_path: Path) -> None:
    failed: list[Exception] = []

    def run() -> None:
        try:
            SqliteBroker(tmp_path / "bus").close()
        except BrokerError as exc:
            failed.append(exc)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_failed_write_counts_as_full_and_failed_read_does_not() -> None:
    with closing(sqlite3.connect(":memory:")) as conn:
        conn.execute("PRAGMA max_page_count = 1")
        with pytest.raises(sqlite3.OperationalError) as caught:
            conn.execute("CREATE TABLE t (x)")
    assert isinstance(from_sqlite(caught.value, Path("f"), is_writing=True), BrokerFullError)
    broken = sqlite3.OperationalError("disk I/O error")
    broken.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    assert isinstance(from_sqlite(broken, Path("f"), is_writing=True), BrokerFullError)
    assert not isinstance(from_sqlite(broken, Path("f"), is_writing=False), BrokerFullError)
    assert isinstance(from_system(OSError(28, "No space left"), Path("f")), BrokerFullError)


# --- URLs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:"])
def test_url_without_a_path_is_the_data_folder(url: str, tmp_path: Path) -> None:
    open_broker(url, tmp_path / "data").close()
    assert (tmp_path / "data" / "bus" / "FORMAT").exists()


def test_url_with_a_path_is_that_folder(tmp_path: Path) -> None:
    open_broker(f"sqlite://{tmp_path}/a%20b", Path("/absent")).close()
    assert (tmp_path / "a b" / "FORMAT").exists()


def test_url_says_how_long_a_worker_may_be_silent(tmp_path: Path) -> None:
    bus = open_broker(f"sqlite://{tmp_path}?session_timeout=1500ms", Path("/absent"))
    bus.close()
    assert isinstance(bus, SqliteBroker)
    assert bus._options.session_timeout_ms == 1_500


@pytest.mark.parametrize("query", ["session=1s", "session_timeout=0s", "session_timeout="])
def test_option_of_a_url_that_means_nothing_is_refused(query: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        open_broker(f"sqlite://{tmp_path}?{query}", tmp_path)


def test_memory_url_names_a_broker_of_this_process(tmp_path: Path) -> None:
    broker = open_broker(f"memory://{tmp_path.name}", tmp_path)
    assert isinstance(broker, MemoryBroker)
    assert open_broker(f"memory://{tmp_path.name}", tmp_path) is broker


@pytest.mark.parametrize("url", ["kafkaesque://x", "sqlite://data/bus", "sqlite:data", "bus", ""])
def test_url_that_names_no_broker_says_what_does(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sqlite://"):
        open_broker(url, tmp_path)
