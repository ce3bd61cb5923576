"""The state directory keeps what it promised, and refuses what it must not touch."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from vxlanu.errors import Refused
from vxlanu.store import FILE_NAME, SCHEMA_VERSION, Row, StateLock, Store


def test_a_committed_row_is_there_after_a_reopen_and_a_removed_one_is_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    asyncio.run(store.commit([Row("a", b"k", b"v"), Row("a", b"gone", b"x"), Row("b", b"k", b"other")]))
    asyncio.run(store.commit([Row("a", b"gone", None)]))
    store.close()
    again = Store(tmp_path)
    assert again.load("a") == {b"k": b"v"}
    assert again.load("b") == {b"k": b"other"}
    again.close()


def test_rows_for_later_are_written_in_order_with_commits(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.commit_later([Row("a", b"k", b"1")])
    asyncio.run(store.commit([Row("a", b"k", b"2")]))
    store.close()
    assert Store(tmp_path).load("a") == {b"k": b"2"}


def test_a_loop_that_ends_before_the_disk_answers_stops_no_later_write(tmp_path: Path) -> None:
    store, other = Store(tmp_path), sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)

    async def leave() -> None:
        store.submit([Row("a", b"k", b"1")])

    other.execute("BEGIN IMMEDIATE")  # the disk does not answer until then
    asyncio.run(leave())
    other.execute("ROLLBACK")
    asyncio.run(asyncio.wait_for(store.commit([Row("a", b"l", b"2")]), 60))
    store.close()
    assert Store(tmp_path).load("a") == {b"k": b"1", b"l": b"2"}


CRASHER = """
import asyncio, os, signal, sys
from pathlib import Path
from vxlanu.store import Row, Store
store = Store(Path(sys.argv[1]))
async def main():
    for i in range(50):
        await store.commit([Row("a", str(i).encode(), b"v")])
        print(i, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CRASHER, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    acknowledged = {line.encode() for line in done.stdout.split()}
    assert len(acknowledged) == 50
    assert set(Store(tmp_path).load("a")) == acknowledged


def test_a_second_agent_on_the_directory_is_refused_by_name_of_the_first(tmp_path: Path) -> None:
    first, second = StateLock(tmp_path), StateLock(tmp_path)
    first.acquire()
    with pytest.raises(Refused, match=f"pid {os.getpid()}"):
        second.acquire()
    first.release()
    second.acquire()


def test_a_file_of_a_newer_version_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    Store(tmp_path).close()
    db = sqlite3.connect(tmp_path / FILE_NAME)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(Refused, match="newer vxlanu"):
        Store(tmp_path)
    db = sqlite3.connect(tmp_path / FILE_NAME)
    assert db.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION + 1


def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database at all, but longer than a header" * 20)
    with pytest.raises(Refused, match="state file"):
        Store(tmp_path)


def test_a_commit_to_a_closed_store_fails_and_nobody_waits_for_it(tmp_path: Path) -> None:
    store = Store(tmp_path)

    async def scene() -> None:
        await store.commit([Row("a", b"k", b"1")])
        store.close()
        with pytest.raises(sqlite3.Error):
            await asyncio.wait_for(store.commit([Row("a", b"k", b"2")]), 10)
        store.commit_later([Row("a", b"k", b"3")])  # may be lost, and is

    asyncio.run(scene())
    again = Store(tmp_path)
    assert again.load("a") == {b"k": b"1"}
    again.close()
