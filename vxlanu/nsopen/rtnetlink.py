"""What is asked of the kernel every few seconds, for each container: read from netlink without pyroute2.

How it works
  pyroute2 makes objects of everything in an answer: 2.7 ms for links, addresses and routes of a namespace, and 0.9 ms
  for each link of a host that has many. Here only what is compared is taken out of the bytes: 0.06 ms and 0.01 ms.

Rules of this file
  1. What asks runs in a child only, of the namespace that the child is in, and changes nothing. What reads bytes
     (`messages`, `attributes`) may run anywhere.
  2. Each question has a socket of its own: an answer that is not read to its end disturbs no other.
  3. What is asked inside of a container costs no more where the container has made itself a thousand addresses and a
     million routes: the kernel filters where it can, and no more than ANSWER_MAX of an answer is read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from vxlanu.nsopen.wire import KernelRefused

__all__ = [
    "NUD_STALE",
    "NUD_VALID",
    "KernelLink",
    "addresses",
    "attributes",
    "has_default_route",
    "link_called",
    "links",
    "messages",
]

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_MULTI, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x2, 0x10, 0x300
NLA_TYPE_MASK = 0x3FFF
SOL_NETLINK, NETLINK_GET_STRICT_CHK = 270, 12  # the kernel filters a dump by what its request says
RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE = 18, 22, 26
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO, IFLA_EXT_MASK, IFLA_ALT_IFNAME = 1, 3, 10, 18, 29, 53
IFLA_INFO_KIND, IFLA_INFO_SLAVE_DATA = 1, 5
IFLA_BRPORT_ISOLATED = 33
IFA_LOCAL = 2  # IFA_ADDRESS is the peer's, and left out where that is 0.0.0.0
OF_LINK = frozenset((IFLA_ADDRESS, IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO))
OF_NAME = frozenset((IFLA_IFNAME,))
OF_LINKINFO = frozenset((IFLA_INFO_KIND, IFLA_INFO_SLAVE_DATA))
OF_PORT, OF_ADDRESS = frozenset((IFLA_BRPORT_ISOLATED,)), frozenset((IFA_LOCAL,))
RTEXT_FILTER_SKIP_STATS = 8
IFF_UP = 0x1
NUD_STALE, NUD_VALID = 0x04, 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80  # reachable, stale, delay, probe, noarp, permanent
AF_INET, RT_TABLE_MAIN, RTN_UNICAST = 2, 254, 1

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix, flags, scope, index
ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, prefixes, tos, table, protocol, scope, type, flags
ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
NUMBER, CODE = struct.Struct("=I"), struct.Struct("=i")

CHUNK_BYTES = 128 * 1024  # a part of a dump is 32 KB at most, one link with all the altnames it may have 64 KB
TRIES = 10
ANSWER_MAX = 1024 * 1024  # of what a container can make longer: 10 000 routes; the default one is the first


@dataclass(frozen=True, slots=True)
class KernelLink:
    """As much of an interface as the audit compares. `isolated` is a bridge port's; `master` 0: it has none."""

    index: int
    name: str
    flags: int
    mac: str
    master: int
    kind: str
    isolated: bool


def links() -> list[KernelLink]:
    """All interfaces here, at one moment: on a host where containers come and go, the list is asked for again.

    Raises:
        KernelRefused: they came and went each time.
    """
    request = LINK.pack(0, 0, 0, 0, 0) + _attribute(IFLA_EXT_MASK, NUMBER.pack(RTEXT_FILTER_SKIP_STATS))
    for _ in range(TRIES):
        with contextlib.suppress(InterruptedError):
            return [_link(message) for message in _ask(RTM_GETLINK, request, NLM_F_DUMP, one_moment=True)]
    raise KernelRefused("list the interfaces", f"they changed {TRIES} times while they were listed")


def link_called(name: str) -> tuple[int, str, bool] | None:
    """Of the interface that has this name or altname: index, name, and whether it is up. None where there is none."""
    request = LINK.pack(0, 0, 0, 0, 0) + _attribute(IFLA_ALT_IFNAME, name.encode() + b"\0")
    try:
        [message] = _ask(RTM_GETLINK, request)
    except OSError as why:
        if why.errno == errno.ENODEV:
            return None
        raise
    _, _, index, flags, _ = LINK.unpack_from(message)
    return index, _text(attributes(message, LINK.size, OF_NAME)[IFLA_IFNAME]), bool(flags & IFF_UP)


def addresses(index: int) -> set[str]:
    """The IPv4 addresses of an interface."""
    found = set()
    for message in _ask(RTM_GETADDR, ADDRESS.pack(AF_INET, 0, 0, 0, index), NLM_F_DUMP, ANSWER_MAX):
        own = attributes(message, ADDRESS.size, OF_ADDRESS).get(IFA_LOCAL)
        if own is not None and ADDRESS.unpack_from(message)[4] == index:
            found.add(socket.inet_ntoa(own))
    return found


def has_default_route() -> bool:
    """Whether the main table says where everything else goes: IPv4 only, as containers' way out is."""
    request = ROUTE.pack(AF_INET, 0, 0, 0, RT_TABLE_MAIN, 0, 0, 0, 0)
    try:
        return any(map(_is_default, _ask(RTM_GETROUTE, request, NLM_F_DUMP, ANSWER_MAX)))
    except FileNotFoundError:
        return False  # nothing was ever in that table


def _is_default(message: bytes) -> bool:
    _, prefix, _, _, table, _, _, kind, _ = ROUTE.unpack_from(message)
    return (prefix, table, kind) == (0, RT_TABLE_MAIN, RTN_UNICAST)


def _ask(
    kind: int, body: bytes, flags: int = 0, size_max: int | None = None, *, one_moment: bool = False
) -> Iterator[bytes]:
    """The messages of the answer, without their headers; the first `size_max` bytes of them. InterruptedError, if they
    are to be of one moment and are not."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as asked:
        asked.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        asked.send(HEADER.pack(HEADER.size + len(body), kind, flags | NLM_F_REQUEST, 1, 0) + body)
        size = 0
        while size_max is None or size < size_max:
            data = asked.recv(CHUNK_BYTES)
            size += len(data)
            for answer, bits, message in messages(data):
                if one_moment and bits & NLM_F_DUMP_INTR:
                    raise InterruptedError
                if answer in (NLMSG_DONE, NLMSG_ERROR):
                    if code := -CODE.unpack_from(message)[0]:
                        raise OSError(code, os.strerror(code))
                    return
                yield message
                if not bits & NLM_F_MULTI:
                    return


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and body of each."""
    at = 0
    while at < len(data):
        length, answer, bits, _, _ = HEADER.unpack_from(data, at)
        if length < HEADER.size:
            raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
        yield answer, bits, data[at + HEADER.size : at + length]
        at += (length + 3) & ~3


def _link(message: bytes) -> KernelLink:
    _, _, index, flags, _ = LINK.unpack_from(message)
    found = attributes(message, LINK.size, OF_LINK)
    info = attributes(found.get(IFLA_LINKINFO, b""), 0, OF_LINKINFO)
    port = attributes(info.get(IFLA_INFO_SLAVE_DATA, b""), 0, OF_PORT)
    return KernelLink(
        index=index,
        name=_text(found.get(IFLA_IFNAME, b"")),
        flags=flags,
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        master=NUMBER.unpack(found[IFLA_MASTER])[0] if IFLA_MASTER in found else 0,
        kind=_text(info.get(IFLA_INFO_KIND, b"")) or "physical",
        isolated=port.get(IFLA_BRPORT_ISOLATED, b"") == b"\1",
    )


def attributes(data: bytes, at: int, wanted: frozenset[int]) -> dict[int, bytes]:
    """Those of them that are wanted: a link has some fifty."""
    found: dict[int, bytes] = {}
    end, read = len(data), ATTRIBUTE.unpack_from
    while at < end and len(found) < len(wanted):
        length, kind = read(data, at)
        if length < ATTRIBUTE.size:
            break
        if kind & NLA_TYPE_MASK in wanted:
            found[kind & NLA_TYPE_MASK] = data[at + ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def _attribute(kind: int, value: bytes) -> bytes:
    """One, padded to the next."""
    length = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def _text(value: bytes) -> str:
    """Whoever may name an interface may use any bytes but a few: what is no UTF-8 is no name of ours either."""
    return value.rstrip(b"\0").decode(errors="replace")
