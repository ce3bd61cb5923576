"""The state directory: one SQLite file, one lock, one writer thread.

Rules of this file
  1. What `commit` has returned for survives kill -9 and a power cut (WAL, synchronous=FULL).
  2. The event loop never waits for the disk: rows go to a thread, which writes all that waits in one transaction.
  3. Rows are opaque here: a space, a key, a value. Who owns a space owns its format (the control core, the agent).
  4. An older file is migrated, a newer one is refused, a second agent on the directory is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vxlanu.errors import Refused

SCHEMA_VERSION = 1
FILE_NAME = "vxlanu.db"
LOCK_NAME = "lock"
HANDOVER_S = 2.0  # for who has the lock only to look, as the stand-in's start after each stop of the agent

_SCHEMA = """
CREATE TABLE row (space TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (space, key)) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One fact on disk; a value of None removes it."""

    space: str
    key: bytes
    value: bytes | None


class StateLock:
    """An advisory lock on the state directory, held for the life of the process (flock dies with its owner)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._fd = -1

    def acquire(self, wait_s: float = 0.0, *, create: bool = True) -> None:
        """Take the lock, or say who still has it after so long; `create`: where there is no such directory, too.

        Raises:
            Refused: another agent runs on this directory, or the directory cannot be written.
        """
        end = time.monotonic() + wait_s
        while True:
            try:
                self._take(os.O_CREAT if create else 0)
                return
            except Refused as refusal:
                if refusal.name != "state_dir_in_use" or time.monotonic() >= end:
                    raise
            time.sleep(0.05)

    def _take(self, create: int) -> None:
        try:
            if create:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self.directory / LOCK_NAME, os.O_RDWR | create | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if not create and isinstance(error, FileNotFoundError):
                why = "no agent has run here"
                raise Refused(f"state directory {self.directory}", why, name="no_state") from None
            raise Refused(
                f"state directory {self.directory}", error.strerror or str(error), hint="--state-dir DIR"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            self._fd = -1
            raise Refused(
                f"state directory {self.directory}",
                f"an agent runs on it already (pid {holder})",
                hint="--state-dir DIR for a second agent",
                name="state_dir_in_use",
                detail={"pid": holder},
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@dataclass(slots=True)
class _Batch:
    rows: list[Row]
    done: asyncio.Future[None] | None
    loop: asyncio.AbstractEventLoop | None


class Store:
    """Rows by space. Opened before the event loop runs; `commit` from the loop; closed last."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        self._queue: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._db = _open(self.path)
        self._closed = False
        self._thread = threading.Thread(target=self._write_until_closed, name="store", daemon=True)
        self._thread.start()

    def load(self, space: str) -> dict[bytes, bytes]:
        """Every row of a space. Call it before the first commit: it reads on the calling thread."""
        rows = self._db.execute("SELECT key, value FROM row WHERE space = ?", (space,))
        return {bytes(key): bytes(value) for key, value in rows}

    def load_below(self, prefix: str) -> list[tuple[str, bytes, bytes]]:
        """Every row of the spaces that begin with `prefix`, as (space without prefix, key, value); like `load`."""
        query = "SELECT space, key, value FROM row WHERE substr(space, 1, ?) = ?"
        rows = self._db.execute(query, (len(prefix), prefix))
        return [(str(space)[len(prefix) :], bytes(key), bytes(value)) for space, key, value in rows]

    async def commit(self, rows: Iterable[Row]) -> None:
        """Return once the rows are on disk."""
        await self.submit(rows)

    def submit(self, rows: Iterable[Row]) -> asyncio.Future[None]:
        """Queue the rows at once, in order with every other commit; done once they are on disk."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        if self._closed:  # nobody would ever answer
            done.set_exception(sqlite3.ProgrammingError("the store is closed"))
            return done
        self._queue.put(_Batch(list(rows), done, loop))
        return done

    def commit_later(self, rows: Iterable[Row]) -> None:
        """Write the rows soon, in order with every other commit; a crash may lose them."""
        self._queue.put(_Batch(list(rows), None, None))

    def close(self) -> None:
        """Write what is waiting and close the file. A commit that comes later fails."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        self._db.close()

    def _write_until_closed(self) -> None:
        batches: list[_Batch] = []
        while True:
            batch = self._queue.get()
            closing = batch is None
            if batch is not None:
                batches.append(batch)
            while not closing and not self._queue.empty():
                batch = self._queue.get()
                if batch is None:
                    closing = True
                else:
                    batches.append(batch)
            if batches:
                self._write(batches)
                batches.clear()
            if closing:
                return

    def _write(self, batches: list[_Batch]) -> None:
        """One transaction for all; the caller of a commit hears of a disk that fails."""
        failure: Exception | None = None
        try:
            with self._db:
                for batch in batches:
                    for row in batch.rows:
                        _apply(self._db, row)
        except sqlite3.Error as error:
            failure = error
        for batch in batches:
            if batch.done is not None and batch.loop is not None:
                with contextlib.suppress(RuntimeError):  # its loop has ended, and who waited with it
                    batch.loop.call_soon_threadsafe(_settle, batch.done, failure)


def _apply(db: sqlite3.Connection, row: Row) -> None:
    if row.value is None:
        db.execute("DELETE FROM row WHERE space = ? AND key = ?", (row.space, row.key))
    else:
        db.execute("INSERT OR REPLACE INTO row VALUES (?, ?, ?)", (row.space, row.key, row.value))


def _settle(done: asyncio.Future[None], failure: Exception | None) -> None:
    if done.done():
        return
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(failure)


def _open(path: Path) -> sqlite3.Connection:
    """Open or create the file; refuse one that a newer agent has written.

    Raises:
        Refused: the file is of a newer version, or is not a database.
    """
    try:
        db = sqlite3.connect(path, check_same_thread=False, isolation_level="IMMEDIATE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        raise Refused(f"state file {path}", str(error), hint="--state-dir DIR", name="state_unreadable") from error
    if version > SCHEMA_VERSION:
        db.close()
        raise Refused(
            f"state file {path}",
            f"written by a newer vxlanu (format {version}, this one knows {SCHEMA_VERSION})",
            hint="upgrade vxlanu on this host",
            name="state_newer",
        )
    if version == 0:
        with db:
            db.execute(_SCHEMA)
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    path.chmod(0o600)
    return db
