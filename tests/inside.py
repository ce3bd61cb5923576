"""Work done by a thread in another network namespace: a socket belongs to the one in which it was made."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from vxlanu.lab.namespaces import CLONE_NEWNET, setns

T = TypeVar("T")


def inside(network: Path, work: Callable[[], T]) -> T:
    """What `work` returns, run by a thread that entered the network namespace `network`."""
    returned: list[T] = []
    raised: list[BaseException] = []

    def body() -> None:
        try:
            setns(str(network), CLONE_NEWNET)
            returned.append(work())
        except BaseException as error:  # carried over to the caller's thread
            raised.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return returned[0]
