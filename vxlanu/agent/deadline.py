"""How long a stop may take, whatever hangs: a task, a request, a disk, a resolver, a thread, the loop in a system call.

How it works
  A thread waits for the word, which a signal handler may give, then for so long, and ends the process. What ended in
  time never hears of it. The state directory is as a crash at that moment would leave it, and so is all the rest: the
  next start finds its way, and until then Docker is answered by the stand-in.

Rules of this file
  1. Nothing here waits for the loop, for the disk or for a lock that another thread may hold: not for the log either.
  2. The status is that of the stop, or of the failure that the agent ends with. One line says what was not waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from types import CoroutineType, FrameType

from vxlanu.errors import VxlanuError

__all__ = ["CLOSED_S", "STOP_S", "Deadline"]

log = logging.getLogger("vxlanu.life")

STOP_S = 15.0  # longer than Docker waits for its longest request (10 s), shorter than the unit's TimeoutStopSec
CLOSED_S = 3.0  # when everything is closed only threads are left, and a resolver may keep one for minutes
SAY_S = 1.0  # whoever reads the log may be stuck, too
NAMED_MAX = 10


class Deadline:
    """One process's. `begin` may be called in a signal handler and any number of times."""

    def __init__(
        self, stop_s: float = STOP_S, closed_s: float = CLOSED_S, leave: Callable[[int], object] = os._exit
    ) -> None:
        self._stop_s, self._closed_s, self._leave = stop_s, closed_s, leave
        self._ends: SimpleQueue[float] = SimpleQueue()  # its put() is reentrant
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: BaseException | None = None
        threading.Thread(target=self._watch, name="deadline", daemon=True).start()

    def of(self, loop: asyncio.AbstractEventLoop) -> None:
        """Whose tasks are named."""
        self._loop = loop

    def begin(self, failure: BaseException | None = None) -> None:
        """The agent was told to stop, or has failed: it begins to close."""
        self._failure = failure or self._failure
        self._ends.put(time.monotonic() + self._stop_s)

    def closed(self, failure: BaseException | None = None) -> None:
        """Everything is closed, and nothing is lost with what still runs."""
        self._failure = failure or self._failure
        self._ends.put(time.monotonic() + self._closed_s)

    def _watch(self) -> None:
        end = self._ends.get()
        with contextlib.suppress(Empty):
            while True:
                end = min(end, self._ends.get(timeout=max(0.0, end - time.monotonic())))
        try:
            saying = threading.Thread(target=self._say, name="deadline", daemon=True)
            saying.start()  # RuntimeError: there is no room for one
            saying.join(SAY_S)
        finally:
            self._leave(self._status())

    def _status(self) -> int:
        if self._failure is None:
            return 0
        return self._failure.exit if isinstance(self._failure, VxlanuError) else 1

    def _say(self) -> None:
        failure = self._failure
        if isinstance(failure, VxlanuError):
            log.error("%s", failure.line(), extra={"event": "stop_cut"})
        elif failure is not None:
            log.error("the agent failed", exc_info=failure, extra={"event": "stop_cut"})
        left = [*self._tasks(), *_threads()]
        more = f" and {len(left) - NAMED_MAX} more" if len(left) > NAMED_MAX else ""
        shown = ", ".join(left[:NAMED_MAX]) + more
        log.warning("stopped without waiting any longer for: %s", shown, extra={"event": "stop_cut"})

    def _tasks(self) -> list[str]:
        return sorted(map(_name_of, asyncio.all_tasks(self._loop))) if self._loop is not None else []


def _name_of(task: asyncio.Task[object]) -> str:
    """Its coroutine, and the innermost one that it waits in."""
    first = inner = task.get_coro()
    while isinstance(inner, CoroutineType) and isinstance(inner.cr_await, CoroutineType):
        inner = inner.cr_await
    name, where = (getattr(it, "__qualname__", "?") for it in (first, inner))
    return f"task {name}" if inner is first else f"task {name} in {where}"


def _threads() -> Iterator[str]:
    """Those that the end of the process would wait for, and where they are."""
    frames = sys._current_frames()
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if not thread.daemon and frame is not None:
            yield f"thread {thread.name} in {_place(frame)}"


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_qualname} ({os.path.basename(frame.f_code.co_filename)})"  # noqa: PTH119  # no Path
