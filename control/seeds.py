"""Seeds: `HOST[:PORT]` to addresses, off the loop. A name that does not resolve now may do so at the next attempt."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Sequence

from .core.effects import Address
from .core.errors import LocalError

__all__ = ["DEFAULT_PORT", "parse_seed", "resolve"]

DEFAULT_PORT = 7946
log = logging.getLogger(__name__)


def parse_seed(text: str) -> Address:
    """`host`, `host:port`, `1.2.3.4`, `fd00::1`, `[fd00::1]:port`. LocalError when it is none of these."""
    host, port = text, ""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        if rest and not rest.startswith(":"):
            raise LocalError("seed_invalid", text)
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not host or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise LocalError("seed_invalid", text)
    return host, int(port) if port else DEFAULT_PORT


async def resolve(seeds: Sequence[str], like: str) -> list[Address]:
    """All addresses of all seeds, in the address family of `like`; none of one is only logged."""
    family = socket.AF_INET6 if ipaddress.ip_address(like).version == 6 else socket.AF_INET
    loop = asyncio.get_running_loop()
    found: dict[Address, None] = {}
    for seed in seeds:
        try:
            host, port = parse_seed(seed)
            rows = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)
        except (OSError, LocalError, UnicodeError) as error:
            log.info("seed %s: %s", seed, error, extra={"event": "seed"})
            continue
        for row in rows:
            found[str(row[4][0]), int(row[4][1])] = None
    return list(found)
