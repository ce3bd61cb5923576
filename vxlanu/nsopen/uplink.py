"""What a child does for injection: the uplink TAP, and the next hop of each VTEP (native/uplink.c says what for).

Rules of this file
  1. Runs in a child only, in the agent's own namespace. The TAP is not persistent: it goes with the agent's descriptor,
     its filter with it, also when the agent is killed.
  2. Frames that are injected pass neither netfilter nor IPsec. A firewall of what the host itself sends is the
     administrator's to give up (--offload inject is opt-in); that encryption is asked for and does not happen is
     nobody's wish, so there is no injection where the host has an IPsec policy.
  3. Asking is not enough: a kernel before 6.17 takes a header of that length, and looks at less of it. So a tunnelled
     super-frame is written, to the TAP while it is down: EIO says that it would have been taken.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytun
from pyroute2 import Ethtool, IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from vxlanu.nsopen import tap, tun
from vxlanu.nsopen.place import Place
from vxlanu.nsopen.probe import ETHERNET, IPV4, TCP, UDP
from vxlanu.nsopen.rtnetlink import NUD_STALE, NUD_VALID
from vxlanu.nsopen.survey import IFF_UP, RTN_UNICAST, Message, nested, number_of, text_of
from vxlanu.nsopen.tap import ADDR_GEN_NONE, blame, choose_address_mode
from vxlanu.nsopen.wire import AskHops, KernelRefused, NextHop, NextHops, OpenUplink, UplinkFacts

NAME = "vxlanu_tx%d"
CONF = Path("/proc/sys/net")
HEADER_BYTES = 24  # struct virtio_net_hdr_v1_hash_tunnel
SEND_BYTES = 4 << 20  # native/limits.h: VX_TX_BUFFER, as much as a socket may have under way
FEATURES = ("tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation")
INGRESS, ETH_P_ALL, ARPHRD_ETHER = 0xFFFF0000, 3, 1
NTF_USE = 0x01
RTM_F_FIB_MATCH = 0x2000  # the entry of the table, not what was made of it for one packet
NETLINK_XFRM, XFRM_MSG_GETPOLICY, NLMSG_DONE = 6, 0x15, 0x3
POLICY_ID_BYTES = 64  # struct xfrm_userpolicy_id
NLM_F_REQUEST_DUMP = 0x301


def open_uplink(place: Place, wanted: OpenUplink) -> tuple[UplinkFacts, list[int]]:
    """The uplink TAP, up, and its descriptor. What it receives leaves by the interface wanted."""
    place.go_to_target()
    with IPRoute() as netlink:
        uplink = number_of(_link(netlink, ifname=wanted.ifname)["index"])
        fd = _open_tap()
        try:
            name, _ = tun.interface_of(fd)
            index = number_of(_link(netlink, ifname=name)["index"])
            _redirect(netlink, name, index, uplink)
        except BaseException:
            os.close(fd)
            raise
    return UplinkFacts(name, index, wanted.ifname, uplink), [fd]


def next_hops(wanted: AskHops) -> NextHops:
    """How to reach each address by the uplink now; or why nothing can be injected into it."""
    uplink = wanted.opened.uplink
    with IPRoute() as netlink:
        try:
            link = _uplink(netlink, wanted.opened)
        except KernelRefused as why:
            return NextHops({}, why.why)
        if unable := _unable(link):
            return NextHops({}, unable)
        if broken := _broken(netlink, wanted.opened, link):
            return NextHops({}, broken, broken=True)
        found = {address: _via(netlink, address, wanted) for address in wanted.addresses}
        known = {text_of(it.get("dst")): it for it in netlink.get_neighbours(ifindex=uplink)}
        for gateway in set(found.values()) & known.keys():
            _keep_fresh(netlink, known[gateway], uplink)
    own = text_of(link.get("address"))
    items = {address: NextHop(via, _mac_of(known.get(via)), own) for address, via in found.items() if via}
    return NextHops(items, carrier=asks_for_carrier(wanted.source))


def asks_for_carrier(source: str) -> bool:
    """Whether some routes of that family count only while their link has a carrier."""
    settings = CONF.joinpath("ipv6" if ":" in source else "ipv4", "conf").glob("*/ignore_routes_with_linkdown")
    for setting in settings:
        with contextlib.suppress(OSError):  # the interface went meanwhile
            if setting.read_text().strip() != "0":
                return True
    return False


def _open_tap() -> int:
    """A TAP that takes tunnelled super-frames. Errors: TunMissing, PermissionMissing, KernelRefused."""
    tap.check_tun()
    with _refusal("make the uplink TAP"):
        device = pytun.TunTapDevice(name=NAME, flags=pytun.IFF_TAP | pytun.IFF_NO_PI | pytun.IFF_VNET_HDR)
        fd = os.dup(device.fileno())
        device.close()
    try:
        with _refusal("prepare the uplink TAP"):
            os.set_blocking(fd, False)
            fcntl.ioctl(fd, tun.TUNSETVNETLE, struct.pack("i", 1))
            fcntl.ioctl(fd, tun.TUNSETVNETHDRSZ, struct.pack("i", HEADER_BYTES))
            fcntl.ioctl(fd, tun.TUNSETSNDBUF, struct.pack("i", SEND_BYTES))
        _try(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _try(fd: int) -> None:
    """Write a tunnelled super-frame; the device is down."""
    try:
        os.write(fd, _tunnelled())
    except OSError as why:
        if why.errno == errno.EIO:
            return
        given = errno.errorcode.get(why.errno or 0, str(why))
        raise KernelRefused("inject", f"a TAP does not take tunnelled super-frames ({given}); Linux 6.17 does") from why
    raise KernelRefused("inject", "a TAP that is down takes frames")


def _redirect(netlink: IPRoute, name: str, index: int, uplink: int) -> None:
    """Let what the TAP receives leave by the uplink, and set it up. It has no address and answers nothing."""
    choose_address_mode(netlink, index, ADDR_GEN_NONE)
    with blame(f"redirect what {name} receives"):
        netlink.tc("add", "ingress", index=index)
        action = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": uplink}
        netlink.tc(
            "add-filter", "u32", index=index, parent=INGRESS, prio=1, protocol=ETH_P_ALL, target=INGRESS,
            keys=["0x0/0x0+0"], action=[action],
        )  # fmt: skip
    with blame(f"set {name} up"):
        netlink.link("set", index=index, state="up", arp=False)


def _uplink(netlink: IPRoute, opened: UplinkFacts) -> Message:
    """The interface by which frames leave; if that is gone, another of its name. Errors: KernelRefused."""
    try:
        return _link(netlink, index=opened.uplink)
    except KernelRefused:
        return _link(netlink, ifname=opened.uplink_ifname)


def _broken(netlink: IPRoute, opened: UplinkFacts, uplink: Message) -> str:
    """Why the TAP does not lead to the uplink; empty if it does."""
    try:
        device = _link(netlink, index=opened.index)
    except KernelRefused:
        return f"{opened.ifname} is gone"
    if not number_of(device["flags"]) & IFF_UP:
        return f"{opened.ifname} is down"
    if number_of(uplink["index"]) != opened.uplink:
        return f"{opened.uplink_ifname} is another interface than {opened.ifname} leads to"
    try:
        targets = {_target_of(it) for it in netlink.get_filters(index=opened.index, parent=INGRESS)}
    except NetlinkError as why:
        return f"{opened.ifname} does not tell its filters: {os.strerror(why.code)}"
    return "" if opened.uplink in targets else f"nothing leads from {opened.ifname} to {opened.uplink_ifname}"


def _target_of(rule: Message) -> int:
    """The interface that one of our filters redirects to; 0 for any other filter."""
    for part in ("options", "TCA_U32_ACT", "TCA_ACT_PRIO_1", "TCA_ACT_OPTIONS"):
        rule = nested(rule.get(part))
    parms = rule.get("TCA_MIRRED_PARMS")
    return number_of(nested(parms)["ifindex"]) if parms else 0


def _unable(link: Message) -> str:
    """Why the uplink cannot take tunnelled super-frames; empty if it can."""
    name = text_of(link.get("ifname"))
    if number_of(link["ifi_type"]) != ARPHRD_ETHER:
        return f"{name} is no Ethernet device"
    if not number_of(link["flags"]) & IFF_UP:
        return f"{name} is down"
    if _has_ipsec():
        return "the host has IPsec policies, which injection would go past"
    try:
        with contextlib.closing(Ethtool()) as ethtool:
            features = ethtool.get_features(name).features
    except (OSError, NetlinkError) as why:
        return f"{name} does not tell its features: {why}"
    lacking = [it for it in FEATURES if it not in features or not features[it].enable]
    return f"{name} does not cut tunnelled frames: {', '.join(lacking)} off" if lacking else ""


def _has_ipsec() -> bool:
    """Whether there is any policy, or a refusal to say so: only a dump that ends at once has none."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_XFRM) as asked:
            length = 16 + POLICY_ID_BYTES
            asked.send(struct.pack("=IHHII", length, XFRM_MSG_GETPOLICY, NLM_F_REQUEST_DUMP, 1, 0) + bytes(length - 16))
            return bool(struct.unpack_from("=IH", asked.recv(1 << 16))[1] != NLMSG_DONE)
    except OSError:
        return False  # a kernel without IPsec


def _via(netlink: IPRoute, address: str, wanted: AskHops) -> str:
    """The address whose MAC is needed to reach `address`; empty if it is not reached by the uplink, or not always.

    Of a route with several next hops the kernel picks one for each socket, by more than we tell it here: a flow's
    small frames, which a socket sends, could go another way than its super-frames. Such an entry names no interface by
    itself, nor does one whose nexthop object the kernel does not spell out (nexthop_compat_mode).
    """
    try:
        route = netlink.route("get", dst=address, src=wanted.source)[0]
        entry = netlink.route("get", dst=address, src=wanted.source, flags=RTM_F_FIB_MATCH)[0]
    except NetlinkError:
        return ""
    plain = number_of(route["type"]) == RTN_UNICAST and not route.get("encap")
    if not plain or {number_of(it.get("oif")) for it in (route, entry)} != {wanted.opened.uplink}:
        return ""
    return text_of(route.get("gateway")) or text_of(nested(route.get("via")).get("addr")) or address


def _mac_of(neighbour: Message | None) -> str:
    if neighbour is None or not number_of(neighbour["state"]) & NUD_VALID:
        return ""
    return text_of(neighbour.get("lladdr"))


def _keep_fresh(netlink: IPRoute, neighbour: Message, uplink: int) -> None:
    """Have the kernel ask again for one that it has not heard of for long: it sees no use of it by us."""
    if number_of(neighbour["state"]) & NUD_STALE:
        with contextlib.suppress(NetlinkError):  # it went meanwhile
            netlink.neigh("set", dst=text_of(neighbour.get("dst")), ifindex=uplink, flags=NTF_USE)


def _link(netlink: IPRoute, **which: str | int) -> Message:
    try:
        found: Iterable[Message] = netlink.link("get", **which)
        return next(iter(found))
    except NetlinkError as why:
        shown = " ".join(map(str, which.values()))
        raise KernelRefused(f"find interface {shown}", f"interface {shown}: {os.strerror(why.code)}") from why


@contextlib.contextmanager
def _refusal(step: str) -> Iterator[None]:
    try:
        yield
    except OSError as why:
        raise KernelRefused(step, os.strerror(why.errno) if why.errno else str(why)) from why


def _tunnelled() -> bytes:
    """A TCP super-frame of two segments in VXLAN, with its virtio header. The sums stay empty: nobody gets it."""
    payload, segment, tunnel = 1000, 500, ETHERNET + IPV4 + UDP + 8
    inner = tunnel + ETHERNET
    start, length = inner + IPV4, IPV4 + TCP + payload
    vnet = struct.pack(
        "<BBHHHH10xHH", 1 | 8, 1 | 0x20, start + TCP, segment, start, 16, ETHERNET + IPV4, inner
    )
    ethernet = bytes.fromhex("020000000002" "020000000001" "0800")
    addresses = bytes([192, 0, 2, 1, 192, 0, 2, 2])

    def ip(protocol: int, size: int) -> bytes:
        return struct.pack("!BBHHHBBH", 0x45, 0, size, 1, 0, 64, protocol, 0) + addresses

    outer = IPV4 + UDP + 8 + ETHERNET + length
    udp = struct.pack("!HHHH", 49152, 4789, outer - IPV4, 0) + bytes.fromhex("0800000000000100")
    tcp = struct.pack("!HHIIBBHHH", 9, 9, 1, 1, 5 << 4, 0x10, 1024, 0, 0)
    return vnet + ethernet + ip(17, outer) + udp + ethernet + ip(6, length) + tcp + bytes(payload)
