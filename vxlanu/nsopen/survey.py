"""What a child reads: interfaces, addresses, routes, and who holds a UDP port.

Rules of this file
  1. Runs in a child only, changes nothing.
  2. What the kernel says is copied into the values of wire.py here; nothing of pyroute2 gets further.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from typing import Protocol

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from vxlanu.nsopen.wire import InterfaceAddress, KernelRefused, Link, Route, RouteTo

SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
IFF_UP, RTN_UNICAST = 0x1, 1
RTM_F_FIB_MATCH = 0x2000
AF_INET, AF_INET6 = 2, 10
ANY_ADDRESS = {AF_INET: "0.0.0.0", AF_INET6: "::"}
ROUTE_NOT_FOUND = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ESRCH, errno.EINVAL, errno.EACCES)
"""None, or one that says no: unreachable, blackhole (EINVAL), prohibit (EACCES); fib_props of net/ipv4."""


class Message(Protocol):
    """As much of a pyroute2 message as is used here: header fields by [], attributes by get."""

    def __getitem__(self, key: str) -> object: ...

    def get(self, key: str, default: object = None) -> object: ...


def links() -> list[Link]:
    with IPRoute() as netlink:
        return [_link(message) for message in netlink.get_links()]


def addresses() -> list[InterfaceAddress]:
    with IPRoute() as netlink:
        names = {_number(link["index"]): _text(link.get("ifname")) for link in netlink.get_links()}
        return [_address(message, names) for message in netlink.get_addr()]


def routes() -> list[Route]:
    with IPRoute() as netlink:
        return [_route(message) for message in netlink.get_routes() if message["type"] == RTN_UNICAST]


def route_to(address: str) -> RouteTo | None:
    """The kernel's choice for `address`, or None."""
    with IPRoute() as netlink:
        try:
            found = netlink.route("get", dst=address)[0]
            index = _number(found.get("oif"))
            link = netlink.link("get", index=index)[0]
        except NetlinkError as why:
            if why.code in ROUTE_NOT_FOUND:
                return None
            raise KernelRefused(f"find the route to {address}", os.strerror(why.code)) from why
    source, gateway = _text(found.get("prefsrc")), _text(found.get("gateway"))
    return RouteTo(source, gateway, index, _text(link.get("ifname")), _number(link.get("mtu")))


def path_mtus(wanted: Iterable[str]) -> dict[str, int]:
    """What link and route take towards each address: RTM_F_FIB_MATCH gives the route as it was configured, without
    what the kernel's cache has learned from ICMP."""
    found: dict[str, int] = {}
    widths: dict[int, int] = {}
    with IPRoute() as netlink:
        for address in wanted:
            try:
                index = _number(netlink.route("get", dst=address)[0].get("oif"))
                configured = netlink.route("get", dst=address, flags=RTM_F_FIB_MATCH)[0]
                if index not in widths:
                    widths[index] = _number(netlink.link("get", index=index)[0].get("mtu"))
            except NetlinkError:
                continue  # no route, or the link went while we asked: its end is a message of its own
            limits = (widths[index], _number(_nested(configured.get("metrics")).get("mtu")))
            found[address] = min((limit for limit in limits if limit), default=0)
    return found


def _link(message: Message) -> Link:
    info = _nested(message.get("linkinfo"))
    data = _nested(info.get("data"))
    statistics = message.get("stats64")
    counted = statistics if isinstance(statistics, dict) else {}
    # Port 0 in a dump stands for nothing: the driver always fills in what it listens on.
    port = _number(data.get("vxlan_port"))
    return Link(
        index=_number(message["index"]),
        name=_text(message.get("ifname")),
        altnames=tuple(_altnames(message)),
        kind=_text(info.get("kind")),
        mac=_text(message.get("address")),
        mtu=_number(message.get("mtu")),
        up=bool(_number(message["flags"]) & IFF_UP),
        carrier=bool(_number(message.get("carrier"))),
        udp_port=port,
        rx_dropped=_number(counted.get("rx_dropped")),
        tx_dropped=_number(counted.get("tx_dropped")),
        queue_length=_number(message.get("txqlen")),
        queues=_number(message.get("num_tx_queues")),
        gso_max_bytes=_number(message.get("gso_max_size")),
    )


def _altnames(message: Message) -> Iterator[str]:
    listed = message.get("prop_list")
    pairs = listed.get("attrs", ()) if isinstance(listed, dict) else ()
    for name, value in pairs:
        if name == "IFLA_ALT_IFNAME":
            yield _text(value)


def _address(message: Message, names: dict[int, str]) -> InterfaceAddress:
    index = _number(message["index"])
    own = _text(message.get("local")) or _text(message.get("address"))  # IFA_ADDRESS is the far end on point to point
    scope = SCOPES.get(_number(message["scope"]), "global")
    return InterfaceAddress(names.get(index, ""), index, own, _number(message["prefixlen"]), scope)


def _route(message: Message) -> Route:
    family = _number(message["family"])
    network = _text(message.get("dst")) or ANY_ADDRESS.get(family, "")
    return Route(
        destination=f"{network}/{message['dst_len']}",
        gateway=_text(message.get("gateway")),
        ifindex=_number(message.get("oif")),
        source=_text(message.get("prefsrc")),
        metric=_number(message.get("priority")),
        table=_number(message.get("table")) or _number(message["table"]),
    )


class _Nothing:
    """A nested attribute that was not sent."""

    def get(self, key: str, default: object = None) -> object:
        return default

    def __getitem__(self, key: str) -> object:
        raise KeyError(key)


def _nested(value: object) -> Message:
    return value if hasattr(value, "get") else _Nothing()  # type: ignore[return-value]  # pyroute2 is untyped


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
