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
        names = {number_of(link["index"]): text_of(link.get("ifname")) for link in netlink.get_links()}
        return [_address(message, names) for message in netlink.get_addr()]


def routes() -> list[Route]:
    with IPRoute() as netlink:
        return [_route(message) for message in netlink.get_routes() if message["type"] == RTN_UNICAST]


def route_to(address: str) -> RouteTo | None:
    """The kernel's choice for `address`, or None."""
    with IPRoute() as netlink:
        try:
            found = netlink.route("get", dst=address)[0]
            index = number_of(found.get("oif"))
            link = netlink.link("get", index=index)[0]
        except NetlinkError as why:
            if why.code in ROUTE_NOT_FOUND:
                return None
            raise KernelRefused(f"find the route to {address}", os.strerror(why.code)) from why
    source, gateway = text_of(found.get("prefsrc")), text_of(found.get("gateway"))
    return RouteTo(source, gateway, index, text_of(link.get("ifname")), number_of(link.get("mtu")))


def path_mtus(wanted: Iterable[str]) -> dict[str, int]:
    """What link and route take towards each address: RTM_F_FIB_MATCH gives the route as it was configured, without
    what the kernel's cache has learned from ICMP."""
    found: dict[str, int] = {}
    widths: dict[int, int] = {}
    with IPRoute() as netlink:
        for address in wanted:
            try:
                index = number_of(netlink.route("get", dst=address)[0].get("oif"))
                configured = netlink.route("get", dst=address, flags=RTM_F_FIB_MATCH)[0]
                if index not in widths:
                    widths[index] = number_of(netlink.link("get", index=index)[0].get("mtu"))
            except NetlinkError:
                continue  # no route, or the link went while we asked: its end is a message of its own
            limits = (widths[index], number_of(nested(configured.get("metrics")).get("mtu")))
            found[address] = min((limit for limit in limits if limit), default=0)
    return found


def _link(message: Message) -> Link:
    info = nested(message.get("linkinfo"))
    data = nested(info.get("data"))
    statistics = message.get("stats64")
    counted = statistics if isinstance(statistics, dict) else {}
    # Port 0 in a dump stands for nothing: the driver always fills in what it listens on.
    port = number_of(data.get("vxlan_port"))
    return Link(
        index=number_of(message["index"]),
        name=text_of(message.get("ifname")),
        altnames=tuple(altnames_of(message)),
        kind=text_of(info.get("kind")),
        mac=text_of(message.get("address")),
        mtu=number_of(message.get("mtu")),
        up=bool(number_of(message["flags"]) & IFF_UP),
        carrier=bool(number_of(message.get("carrier"))),
        udp_port=port,
        rx_dropped=number_of(counted.get("rx_dropped")),
        tx_dropped=number_of(counted.get("tx_dropped")),
        queue_length=number_of(message.get("txqlen")),
        queues=number_of(message.get("num_tx_queues")),
        gso_max_bytes=number_of(message.get("gso_max_size")),
    )


def altnames_of(message: Message) -> Iterator[str]:
    """Of an interface, as the kernel lists it."""
    listed = message.get("prop_list")
    pairs = listed.get("attrs", ()) if isinstance(listed, dict) else ()
    for name, value in pairs:
        if name == "IFLA_ALT_IFNAME":
            yield text_of(value)


def _address(message: Message, names: dict[int, str]) -> InterfaceAddress:
    index = number_of(message["index"])
    # IFA_ADDRESS is the far end on point to point
    own = text_of(message.get("local")) or text_of(message.get("address"))
    scope = SCOPES.get(number_of(message["scope"]), "global")
    return InterfaceAddress(names.get(index, ""), index, own, number_of(message["prefixlen"]), scope)


def _route(message: Message) -> Route:
    family = number_of(message["family"])
    network = text_of(message.get("dst")) or ANY_ADDRESS.get(family, "")
    return Route(
        destination=f"{network}/{message['dst_len']}",
        gateway=text_of(message.get("gateway")),
        ifindex=number_of(message.get("oif")),
        source=text_of(message.get("prefsrc")),
        metric=number_of(message.get("priority")),
        table=number_of(message.get("table")) or number_of(message["table"]),
    )


class _Nothing:
    """A nested attribute that was not sent."""

    def get(self, key: str, default: object = None) -> object:
        return default

    def __getitem__(self, key: str) -> object:
        raise KeyError(key)


def nested(value: object) -> Message:
    return value if hasattr(value, "get") else _Nothing()  # type: ignore[return-value]  # pyroute2 is untyped


def text_of(value: object) -> str:
    return value if isinstance(value, str) else ""


def number_of(value: object) -> int:
    return value if isinstance(value, int) else 0
