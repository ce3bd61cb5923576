"""A line on stderr while a request waits for peers or for the kernel.

Rules of this file
  1. Silent for the first second, and always silent when stderr is no terminal: scripts and logs see nothing of it.
  2. It erases itself before anything else is written.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from vxlanu.cli.render import age

__all__ = ["waiting"]

PATIENCE_S = 1.0
ERASE = "\r\x1b[K"


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say `what` and for how long, once a second, until the block is left."""
    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    teller = threading.Thread(target=_tell, args=(what, over), daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def _tell(what: str, over: threading.Event) -> None:
    seconds = 0
    while not over.wait(PATIENCE_S):
        seconds += 1
        sys.stderr.write(f"{ERASE}{what} … {age(seconds)}")
        sys.stderr.flush()
    if seconds:
        sys.stderr.write(ERASE)
        sys.stderr.flush()
