"""What a child does for a network's gateway: a namespace that forwards, and sockets in one.

Rules of this file
  1. Runs in a child only. What is made here is held by the descriptors that are handed out and by nothing else: it has
     no name, and ends with whoever holds them.
  2. The namespace routes between the networks on its own links and never tells anybody of a better way: its guests are
     on one link, and a redirect would send them past the gateway that they were told to use.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from pathlib import Path

from pyroute2 import IPRoute

from vxlanu.nsopen import syscalls
from vxlanu.nsopen.wire import AddressFailed, KernelRefused, OpenSockets, PermissionMissing

SYSCTL = Path("/proc/sys/net")
BACKLOG = 128

# Of "all" and of "default", so that what a kernel combines with `and`, with `or` and by maximum says the same, and the
# link that comes later has it too. The first one resets others, so the order matters.
SETTINGS = (
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv4/conf/all/rp_filter", "1"),  # who has no address of the network is not routed
    ("ipv4/conf/default/rp_filter", "1"),
)
SETTINGS_IPV6 = (
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/forwarding", "1"),
    ("ipv6/conf/all/accept_redirects", "0"),
    ("ipv6/conf/default/accept_redirects", "0"),
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
)


def new_namespace() -> int:
    """A network namespace that forwards, with nothing in it but the loopback."""
    try:
        try:
            syscalls.new_net()
        except PermissionError:
            syscalls.new_user_net()
        _configure()
        return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as why:
        hint = "run the agent as root, or allow user namespaces"
        raise PermissionMissing("make a namespace for a gateway", why.strerror or str(why), hint=hint) from why
    except OSError as why:
        raise KernelRefused("make a namespace for a gateway", why.strerror or str(why)) from why


def _configure() -> None:
    for name, value in SETTINGS + (SETTINGS_IPV6 if (SYSCTL / "ipv6").is_dir() else ()):
        (SYSCTL / name).write_text(value)
    with IPRoute() as netlink:
        netlink.link("set", index=netlink.link_lookup(ifname="lo")[0], state="up")


def open_sockets(request: OpenSockets) -> list[int]:
    """Of each address in turn a UDP socket, then of each a listening TCP socket."""
    with contextlib.ExitStack() as opened:
        sockets = [
            opened.enter_context(_bound(address, request.port, kind))
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)
            for address in request.addresses
        ]
        return [opening.detach() for opening in sockets]


def _bound(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    what = f"listen on {address} port {port}"
    try:
        family = socket.AF_INET if ipaddress.ip_address(address).version == 4 else socket.AF_INET6
        made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except (ValueError, OSError) as why:
        raise AddressFailed(what, str(why)) from why
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the port of an earlier run may linger
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen(BACKLOG)
    except OSError as why:
        made.close()
        raise AddressFailed(what, why.strerror or str(why)) from why
    return made
