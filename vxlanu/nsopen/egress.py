"""What a child does for containers' way out: the bridge on the host, a veth for each target, forwarding.

Rules of this file
  1. Runs in a child only. `ground` and `wire` are convergences, not histories: they look at what there is and make the
     difference good, so that the first call, the audit after `ip link del` and the start after a crash are one.
  2. Only what is known as ours is changed or removed: the bridge by its MAC, a veth by its name, kind and bridge.
  3. A port is isolated before it is up: at no moment can two containers talk across the bridge.
  4. The bridge speaks no IPv6, from before it is up: a host that does not forward IPv6 would believe a container's
     router advertisement, and send its own traffic to it.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from vxlanu.nsopen import rtnetlink
from vxlanu.nsopen.place import Place
from vxlanu.nsopen.rtnetlink import KernelLink
from vxlanu.nsopen.survey import IFF_UP, Message, altnames_of, nested, number_of, text_of
from vxlanu.nsopen.tap import ADDR_GEN_NONE, blame, choose_address_mode, rename
from vxlanu.nsopen.wire import (
    AddressFailed,
    BridgeTaken,
    EgressGround,
    EgressWire,
    GroundFacts,
    KernelRefused,
    WireFacts,
    egress_name,
)

MTU = 1500  # what leaves here is not encapsulated
AF_INET = 2
IFF_LOOPBACK, IFF_LOWER_UP = 0x8, 0x10000
OURS = re.compile(r"e-[0-9a-f]{12}")
IP_FORWARD = "net.ipv4.ip_forward"
IPV6 = Path("/proc/sys/net/ipv6")


def ground(place: Place, wanted: EgressGround) -> GroundFacts:
    """The host's side as `wanted`; says what was not."""
    place.go_to_target()
    links = {link.name: link for link in rtnetlink.links()}
    with IPRoute() as netlink:
        bridge = links.get(wanted.bridge)
        if bridge is not None and (bridge.kind != "bridge" or bridge.mac != wanted.mac):
            what = f"a {bridge.kind} device" if bridge.kind != "bridge" else "a bridge"
            why = f"the host has {what} of that name that is not this agent's"
            hint = f"ip link del {wanted.bridge}, or gateway-subnet = \"none\""
            raise BridgeTaken(f"bridge {wanted.bridge}", why, hint=hint)
        here = bridge.index if bridge is not None else 0
        mended = list(_without_strangers(netlink, links, wanted.tags, here))
        if not wanted.tags:
            mended += _without_bridge(netlink, wanted.bridge, here)
            return GroundFacts(tuple(mended), ())
        if not here:
            here = _make_bridge(netlink, wanted)
            mended.append(f"bridge {wanted.bridge} made")
        mended += _speaks_no_ipv6(wanted.bridge)
        mended += _stands(netlink, wanted, here)
        switched = list(_switch(IP_FORWARD, on=True))
        mended += [*switched, *_switch(f"net.ipv4.conf.{wanted.bridge}.route_localnet", on=wanted.loopback)]
        ports = {tag: links.get(egress_name(tag)) for tag in wanted.tags}
        for port in filter(None, ports.values()):
            mended += _port(netlink, port, here)
        missing = [tag for tag, port in ports.items() if not port or not port.flags & IFF_LOWER_UP]
        outward = tuple(_outward(netlink, links.values(), wanted))
    return GroundFacts(tuple(mended), tuple(missing), outward, bool(switched))


def wire(place: Place, wanted: EgressWire) -> WireFacts:
    """The veth of one target, up at both ends; where it is there already, what it lacks."""
    place.go_to_target()
    routed = rtnetlink.has_default_route()
    with IPRoute() as inside:
        place.go_home()
        with IPRoute() as host:
            if index := _other_end(host, inside, egress_name(wanted.tag)):
                place.go_to_target()
                return _dress(inside, wanted, index)
            if routed:
                return WireFacts("", 0)
            try:
                _join(host, place.target, wanted)
                place.go_to_target()
                made = _dress(inside, wanted, _index(inside, egress_name(wanted.tag)))
            except BaseException:
                with contextlib.suppress(NetlinkError, KernelRefused):
                    host.link("del", index=_index(host, egress_name(wanted.tag)))
                raise
    return WireFacts(made.ifname, made.ifindex, ("it was not there: made",))


def _other_end(host: IPRoute, inside: IPRoute, name: str) -> int:
    """The interface in the target, whatever it is called now; 0 where there is none. A host's end that leads elsewhere
    is nobody's: it goes."""
    try:
        own = host.link("get", ifname=name)[0]
    except NetlinkError:
        return 0
    try:
        there = inside.link("get", index=number_of(own.get("link")))[0]
        if _kind(there) == "veth" and number_of(there.get("link")) == number_of(own["index"]):
            return number_of(there["index"])
    except NetlinkError:
        pass  # no interface has that number there
    with contextlib.suppress(NetlinkError):
        host.link("del", index=number_of(own["index"]))
    return 0


def _join(host: IPRoute, target: int | None, wanted: EgressWire) -> None:
    """A new veth: one end an isolated port, the other in the target."""
    name, bridge = egress_name(wanted.tag), _index(host, wanted.bridge)
    with blame(f"make the veth {name}"):
        peer = {"ifname": name, "net_ns_fd": target, "address": wanted.mac, "mtu": MTU}
        host.link("add", ifname=name, kind="veth", mtu=MTU, peer=peer)
    index = _index(host, name)
    choose_address_mode(host, index, ADDR_GEN_NONE)
    with blame(f"make {name} a port of {wanted.bridge}"):
        host.link("set", index=index, master=bridge)
        host.brport("set", index=index, isolated=1)
        host.link("set", index=index, state="up")


def cut(place: Place, tag: str) -> bool:
    """Delete the veth by the host's end; False when there is none."""
    place.go_to_target()
    with IPRoute() as netlink:
        try:
            netlink.link("del", index=_index(netlink, egress_name(tag)))
        except NetlinkError as why:
            if why.code != errno.ENODEV:
                raise KernelRefused(f"delete {egress_name(tag)}", os.strerror(why.code)) from why
            return False
        except KernelRefused:
            return False
    return True


def _without_strangers(
    netlink: IPRoute, links: dict[str, KernelLink], tags: tuple[str, ...], bridge: int
) -> Iterator[str]:
    """Remove the veths of targets that are no longer: those of our bridge, and those that lost it."""
    wanted = {egress_name(tag) for tag in tags}
    for name, link in links.items():
        stranded = link.master in (bridge, 0)
        if OURS.fullmatch(name) and link.kind == "veth" and stranded and name not in wanted:
            with contextlib.suppress(NetlinkError):  # it goes by itself when its target does
                netlink.link("del", index=link.index)
            yield f"{name}, which belonged to nobody, removed"


def _without_bridge(netlink: IPRoute, name: str, index: int) -> Iterator[str]:
    if index:
        with blame(f"delete bridge {name}"):
            netlink.link("del", index=index)
        yield f"bridge {name} removed"


def _make_bridge(netlink: IPRoute, wanted: EgressGround) -> int:
    with blame(f"make bridge {wanted.bridge}"):
        netlink.link(
            "add", ifname=wanted.bridge, kind="bridge", address=wanted.mac, mtu=MTU, br_forward_delay=0,
            br_mcast_snooping=0,
        )  # fmt: skip
    index = _index(netlink, wanted.bridge)
    choose_address_mode(netlink, index, ADDR_GEN_NONE)
    return index


def _speaks_no_ipv6(bridge: str) -> Iterator[str]:
    """Also where an administrator's sysctl for all interfaces came after the bridge."""
    if IPV6.is_dir():  # else nobody here does
        yield from _switch(f"net.ipv6.conf.{bridge}.disable_ipv6", on=True)


def _stands(netlink: IPRoute, wanted: EgressGround, index: int) -> Iterator[str]:
    """Up, and with this one address."""
    own = ipaddress.ip_interface(wanted.gateway)
    has = {(it.get("address"), it["prefixlen"]) for it in netlink.get_addr(index=index, family=AF_INET)}
    for address, prefix in has - {(str(own.ip), own.network.prefixlen)}:
        with blame(f"take {address} from {wanted.bridge}"):
            netlink.addr("delete", index=index, address=address, prefixlen=prefix)
        yield f"address {address}/{prefix} of {wanted.bridge} removed"
    if (str(own.ip), own.network.prefixlen) not in has:
        with blame(f"give {wanted.bridge} the address {own}", AddressFailed):
            broadcast = str(own.network.broadcast_address)
            netlink.addr(
                "add", index=index, address=str(own.ip), prefixlen=own.network.prefixlen, broadcast=broadcast
            )
        yield f"address {own} given to {wanted.bridge}"
    if not number_of(netlink.link("get", index=index)[0]["flags"]) & IFF_UP:
        with blame(f"set {wanted.bridge} up"):
            netlink.link("set", index=index, state="up")
        yield f"{wanted.bridge} set up"


def _switch(name: str, *, on: bool) -> Iterator[str]:
    """The kernel's. `route_localnet` lets 127.0.0.1 of the host reach published ports; gateway/rules.py guards it."""
    path = Path("/proc/sys", *name.split("."))
    try:
        if path.read_text().strip() != str(int(on)):
            path.write_text(str(int(on)))
            yield f"{name} set to {int(on)}"
    except OSError as why:
        raise KernelRefused(f"set {name} to {int(on)}", why.strerror or str(why)) from why


def _outward(netlink: IPRoute, links: Iterable[KernelLink], wanted: EgressGround) -> Iterator[str]:
    """Interfaces that lead out of the host. Bridges are where its containers and guests are, so one of them counts only
    if it has a port of another kind than theirs, or a gateway behind it; anything else counts if it has an address."""
    gateways = set(_towards_gateways(netlink))
    addressed = {number_of(it["index"]) for it in netlink.get_addr(family=AF_INET)}
    uplinked = {link.master for link in links if link.kind not in ("veth", "tun")}
    for link in links:
        leads = link.index in gateways or link.index in (uplinked if link.kind == "bridge" else addressed)
        if link.name != wanted.bridge and not link.flags & IFF_LOOPBACK and (leads or link.name == wanted.underlay):
            yield link.name


def _towards_gateways(netlink: IPRoute) -> Iterator[int]:
    """Interfaces by which a route goes on to another router."""
    for route in netlink.get_routes(family=AF_INET):
        for hop in (route, *(route.get("multipath") or ())):
            if hop.get("gateway") or hop.get("via"):
                yield number_of(hop.get("oif"))


def _port(netlink: IPRoute, link: KernelLink, bridge: int) -> Iterator[str]:
    """A veth that is there is an isolated port of the bridge, and up."""
    index, name, right = link.index, link.name, link.master == bridge
    if right and link.isolated and link.flags & IFF_UP:
        return
    with contextlib.suppress(NetlinkError):  # it goes by itself when its target does
        if not right:
            netlink.link("set", index=index, master=bridge)
        netlink.brport("set", index=index, isolated=1)
        netlink.link("set", index=index, state="up")
    yield f"{name} made an isolated port again"


def _dress(netlink: IPRoute, wanted: EgressWire, index: int) -> WireFacts:
    """In the target: name, address, route. No IPv6: the way out is IPv4, and router advertisements are not for it."""
    mended = list(_names(netlink, egress_name(wanted.tag), index))
    link = netlink.link("get", index=index)[0]
    ifname = text_of(link.get("ifname"))
    with contextlib.suppress(OSError):  # a target without IPv6
        Path("/proc/sys/net/ipv6/conf", ifname, "disable_ipv6").write_text("1")
    own = ipaddress.ip_interface(wanted.address)
    if str(own.ip) not in [it.get("local") for it in netlink.get_addr(index=index, family=AF_INET)]:
        with blame(f"give {ifname} the address {own}", AddressFailed):
            broadcast = str(own.network.broadcast_address)
            netlink.addr("add", index=index, address=str(own.ip), prefixlen=own.network.prefixlen, broadcast=broadcast)
        mended.append(f"{ifname} had lost its address")
    if not number_of(link["flags"]) & IFF_UP:
        with blame(f"set {ifname} up"):
            netlink.link("set", index=index, state="up")
        mended.append(f"{ifname} was down")
    if not rtnetlink.has_default_route():
        with blame(f"route through {wanted.gateway}", AddressFailed):
            netlink.route("add", dst="0.0.0.0/0", gateway=wanted.gateway, oif=index)
        mended.append(f"{ifname} had lost its route")
    return WireFacts(ifname, index, tuple(mended))


def _names(netlink: IPRoute, name: str, index: int) -> Iterator[str]:
    """One of the target's kind, and for an altname that of the host's end."""
    link = netlink.link("get", index=index)[0]
    if text_of(link.get("ifname")) == name:
        rename(netlink, index, "")
        yield "it had no name yet"
    if name not in altnames_of(link) or text_of(link.get("ifname")) == name:
        with blame(f"name it {name} too"):
            netlink.link("property_add", index=index, altname=name)


def _index(netlink: IPRoute, name: str) -> int:
    try:
        return number_of(netlink.link("get", ifname=name)[0]["index"])
    except NetlinkError as why:
        raise KernelRefused(f"find {name}", os.strerror(why.code)) from why


def _kind(link: Message) -> str:
    return text_of(nested(link.get("linkinfo")).get("kind")) or "physical"
