"""What netlink tells of the host's network by itself: that something changed, hardly ever what exactly.

Rules of this file
  1. Nothing is read out of the messages here, and a lost one counts too: whoever hears of a change looks for himself.
  2. A look is a process of some 15 ms, and more with many VTEPs. In a quiet time it follows a message at once; but
     however much there is to hear, looks take no more than one part in REST of the time (`rest`).
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINKS, NEIGHBOURS, FILTERS, ROUTES = 0x1, 0x4, 0x8, 0x40 | 0x400  # RTMGRP_ of linux/rtnetlink.h; FILTERS: tc's
ADDRESSES, RULES = 0x10 | 0x100, 0x80 | 0x40000  # of IPv4, of IPv6; that of IPv6 rules has no name there
NEXTHOPS = 0x80000000  # objects that routes go by; nor has this (RTNLGRP_NEXTHOP)
CHUNK_BYTES = 64 * 1024
REST, REST_MAX_S = 20.0, 10.0  # after a look: as many times what it took, at most so long


@contextmanager
def heard(groups: int, told: Callable[[bytes], None], protocol: int = socket.NETLINK_ROUTE) -> Iterator[None]:
    """While this lasts, `told` gets each bundle of messages to these groups; empty where some were lost.

    Raises:
        OSError: this kernel has no such protocol.
    """
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol) as changes:
        changes.bind((0, groups))

        def drain() -> None:
            while True:
                try:
                    told(changes.recv(CHUNK_BYTES))
                except BlockingIOError:
                    return
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    told(b"")

        loop.add_reader(changes.fileno(), drain)
        try:
            yield
        finally:
            loop.remove_reader(changes.fileno())


async def rest(began: float) -> None:
    """After a look that began then, by time.monotonic()."""
    await asyncio.sleep(min(REST * (time.monotonic() - began), REST_MAX_S))
