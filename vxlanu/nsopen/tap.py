"""What a child does to TAPs: create, adopt, delete.

Rules of this file
  1. Runs in a child only. pytun opens, descriptors are kept by dup, the pytun object is closed at once: its attributes
     (mtu, addr, up) act on whatever has that *name* in the caller's namespace.
  2. Until everything has succeeded the device is not persistent, so that any failure, a kill included, takes it away
     with its descriptors, in whichever namespace it is by then.
  3. Every refusal is raised by blame; which step it was is in the message.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytun
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from vxlanu.errors import VxlanuError
from vxlanu.nsopen import syscalls, tun
from vxlanu.nsopen.place import Place
from vxlanu.nsopen.wire import (
    AddressFailed,
    AdoptTap,
    InterfaceTaken,
    KernelRefused,
    PermissionMissing,
    TapBusy,
    TapFacts,
    TapMissing,
    TapPlan,
    TapQueues,
    TunMissing,
    alternative_name,
    moved_name,
    temporary_name,
)

IFA_F_NODAD = 0x02
ADDR_GEN_EUI64, ADDR_GEN_NONE = 0, 1
SEND_BYTES = 65000  # native/limits.h: VX_SEND_BYTES, what one send to the underlay carries
TCP_ROOM = 321  # the kernel's MAX_TCP_HEADER + 1 (sk_dst_gso_max_size), at its largest
GSO_BYTES_MAX = 65536
UNSTEERED = -1
FRAME_BYTES = 1 << 17  # more than any frame and its virtio header
ETHERNET_NAMES_MAX = 1000  # how many ethN are tried; a target with more interfaces has another problem


def create(place: Place, plan: TapPlan) -> tuple[TapFacts, list[int]]:
    """The TAP of `plan`, persistent, in the target, configured and up unless it is bare, and its queues."""
    program = _steering(plan.queues)
    place.go_to_nursery()
    fds = open_queues(temporary_name(plan.tag), plan.queues, pytun.IFF_TUN_EXCL, program)
    try:
        _dress(place, plan)
        place.go_to_target()
        with IPRoute() as netlink:
            facts = _settle(netlink, place, plan, write_queue=plan.queues.write_queue)
        tun.set_persistent(fds[0], True)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return facts, fds


def adopt(place: Place, request: AdoptTap) -> tuple[TapFacts, list[int]]:
    """Queues of a TAP that stands in the target without an owner."""
    program = _steering(request.queues)
    place.go_to_target()
    altname = alternative_name(request.tag)
    with IPRoute() as netlink:
        facts = _facts(netlink, place, request.tag, created=False)
    fds, queues = _open_again(altname, request.queues, program)
    # Between the look-up and the opening the device can go; the kernel then *makes* one of that name.
    if tun.interface_of(fds[0])[0] == altname:
        for fd in fds:
            os.close(fd)
        raise TapMissing(f"adopt {altname}", "the device vanished meanwhile")
    return msgspec.structs.replace(facts, write_queue=queues.write_queue), fds


def delete(place: Place, tag: str) -> bool:
    """Delete the TAP of `tag` in the target; False when there is none."""
    place.go_to_target()
    with IPRoute() as netlink:
        index = _index(netlink, tag)
        if index == 0:
            return False
        with blame(f"delete {alternative_name(tag)}"):
            netlink.link("del", index=index)
    return True


def _steering(queues: TapQueues) -> int:
    """A descriptor of the program for `queues`, -1 for none. To be asked for in our own user namespace: bpf() looks for
    capabilities there. The child does not close it, since it ends soon."""
    if not queues.steering:
        return UNSTEERED
    try:
        return syscalls.steering_program(queues.count)
    except OSError:
        return UNSTEERED


def open_queues(name: str, queues: TapQueues, first_flags: int = 0, program: int = UNSTEERED) -> list[int]:
    """Descriptors of the TAP `name`, those that are read first; whatever fails, none stays open.

    The write queue is opened and detached first, while it is queue 0: what comes through it is recorded as received
    on that number, and a number beyond the queues that are attached makes the kernel warn (get_rps_cpu).
    """
    check_tun()
    flags = pytun.IFF_TAP | pytun.IFF_NO_PI
    flags |= pytun.IFF_VNET_HDR if queues.vnet_hdr else 0
    flags |= pytun.IFF_MULTI_QUEUE if queues.multi_queue else 0
    fds: list[int] = []
    try:
        for number in range(queues.count + queues.write_queue):
            device = pytun.TunTapDevice(name=name, flags=flags | (first_flags if number == 0 else 0))
            fds.append(os.dup(device.fileno()))  # dup is close-on-exec (PEP 446), pytun's own is not
            device.close()
            tun.prepare_queue(fds[-1], queues.vnet_hdr, queues.offloads)
            if queues.write_queue and number == 0:
                tun.detach(fds[0])
        tun.steer(fds[-1], program if queues.count > 1 else UNSTEERED)  # an earlier owner's may still be there
    except OSError as why:
        for fd in fds:
            os.close(fd)
        raise _refusal_to_open(name, why) from why
    return fds[1:] + fds[:1] if queues.write_queue else fds


def _open_again(name: str, wanted: TapQueues, program: int) -> tuple[list[int], TapQueues]:
    """The queues of a TAP that stands, and how they could be opened.

    One or several queues is a property of the device from its making on (EINVAL for the other kind). Several can be
    opened as one; one cannot be opened as several. The virtio header is the new owner's choice, but what the old one
    promised to take holds until it is revoked, and a super-frame without a header could not be told from a frame.
    """
    several = msgspec.structs.replace(wanted, multi_queue=True)
    single = msgspec.structs.replace(wanted, multi_queue=False, count=1, write_queue=False)
    for tried in (wanted, single if wanted.multi_queue else several):
        try:
            if not wanted.vnet_hdr:
                revoking = msgspec.structs.replace(tried, count=1, write_queue=False, vnet_hdr=True, offloads=0)
                os.close(open_queues(name, revoking)[0])
            fds = open_queues(name, tried, program=program)
        except KernelRefused as why:
            if not isinstance(why.__cause__, OSError) or why.__cause__.errno != errno.EINVAL:
                raise
            refusal = why
            continue
        _discard(fds if tried.count > 1 else [], tried.frames)
        return fds, tried
    raise refusal


def _discard(fds: list[int], frames: int) -> None:
    """Forget the frames that came while queue after queue was opened: each one moves flows to itself, and another
    worker would send their later frames first."""
    for fd in fds:
        with contextlib.suppress(OSError):  # EAGAIN: empty
            for _ in range(frames):
                os.read(fd, FRAME_BYTES)


def check_tun() -> int:
    """The IFF_ flags that this kernel's TAPs know. Errors: TunMissing."""
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as why:
        raise TunMissing("open /dev/net/tun", "there is no such device", hint="modprobe tun") from why
    except OSError as why:
        hint = "chmod 0666 /dev/net/tun, as most distributions have it"
        raise TunMissing("open /dev/net/tun", why.strerror or str(why), hint=hint) from why
    try:
        return tun.known_flags(fd)
    finally:
        os.close(fd)


def _refusal_to_open(name: str, why: OSError) -> VxlanuError:
    text = os.strerror(why.errno) if why.errno else str(why)
    if why.errno == errno.EBUSY:
        return TapBusy(f"open TAP {name}", "another process has it open")
    if why.errno == errno.EPERM:
        return PermissionMissing(f"open TAP {name}", text, hint="run the agent as root, or give it CAP_NET_ADMIN")
    return KernelRefused(f"open TAP {name}", text)


def _dress(place: Place, plan: TapPlan) -> None:
    """In the nursery: everything that does not need the target, then the move."""
    name, altname = temporary_name(plan.tag), alternative_name(plan.tag)
    with IPRoute() as netlink:
        index = netlink.link_lookup(ifname=name)[0]
        with blame(f"give the TAP MAC {plan.mac} and MTU {plan.mtu}", AddressFailed):
            netlink.link("set", index=index, address=plan.mac, mtu=plan.mtu, txqlen=plan.queues.frames)
        with blame(f"bound the TAP's super-frames to {gso_bytes(plan.mtu)} bytes"):
            netlink.link("set", index=index, gso_max_size=gso_bytes(plan.mtu))
        with blame(f"name the TAP {altname}"):
            netlink.link("property_add", index=index, altname=altname)
        with blame("move the TAP into the target"), _taken(f"attach {plan.tag}", "this endpoint is there already"):
            netlink.link("set", index=index, net_ns_fd=place.target)


def gso_bytes(mtu: int) -> int:
    """IFLA_GSO_MAX_SIZE that makes a bulk TCP super-frame just fit one send, for a network's MTU.

    TCP fills a super-frame with as many full segments as fit in the size less TCP_ROOM (at MTU 1450: 44, where 64 KB
    would hold 46, and every read would cost a second, almost empty send). A bound on the *number* of segments,
    IFLA_GSO_MAX_SEGS, would say the same for TCP, but the kernel cuts in software what exceeds it: a UDP_SEGMENT
    sender's sixty small datagrams would come in sixty reads.
    """
    segments = max(SEND_BYTES // (mtu + 8 + 14), 1)  # VXLAN and Ethernet
    return min(segments * (mtu - 20 - 32) + TCP_ROOM, GSO_BYTES_MAX)  # IPv4, TCP with timestamps


def _settle(netlink: IPRoute, place: Place, plan: TapPlan, *, write_queue: bool) -> TapFacts:
    """In the target: name, and unless it is bare link-local address, up, addresses, routes."""
    index = _index(netlink, plan.tag)
    rename(netlink, index, moved_name(plan.tag) if plan.bare else plan.ifname)
    if plan.bare:
        return _facts(netlink, place, plan.tag, created=True, write_queue=write_queue)
    has_v6 = choose_address_mode(netlink, index, ADDR_GEN_NONE)
    facts = _facts(netlink, place, plan.tag, created=True, write_queue=write_queue)
    if any(":" in address for address in plan.addresses):
        _allow_v6(facts.ifname)
    with blame(f"set {facts.ifname} up"):
        netlink.link("set", index=index, state="up")
    if has_v6:
        _add_link_local(netlink, index, plan.mac)
        choose_address_mode(netlink, index, ADDR_GEN_EUI64)
    for address in plan.addresses:
        with blame(f"give {facts.ifname} the address {address}", AddressFailed):
            _add_address(netlink, index, ipaddress.ip_interface(address))
    for prefix in plan.onlink:
        with blame(f"route {prefix} through {facts.ifname}", AddressFailed):
            netlink.route("add", dst=prefix, oif=index, scope=253 if "." in prefix else 0)
    return facts


def rename(netlink: IPRoute, index: int, wanted: str) -> None:
    """To the name wanted, or to the lowest ethN that is free at this very moment: asking first could be too late."""
    if wanted:
        with (
            blame(f"name the interface {wanted}", AddressFailed),
            _taken(f"attach as {wanted}", "the target has such an interface"),
        ):
            netlink.link("set", index=index, ifname=wanted)
        return
    for number in range(ETHERNET_NAMES_MAX):
        try:
            netlink.link("set", index=index, ifname=f"eth{number}")
            return
        except NetlinkError as why:
            if why.code != errno.EEXIST:
                raise KernelRefused(f"name the interface eth{number}", os.strerror(why.code)) from why
    raise InterfaceTaken("choose an interface name", f"eth0 to eth{ETHERNET_NAMES_MAX - 1} are taken")


def choose_address_mode(netlink: IPRoute, index: int, mode: int) -> bool:
    """How the kernel makes link-local addresses. False: this kernel or namespace has no IPv6."""
    family = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", mode)]})]}
    try:
        netlink.link("set", index=index, IFLA_AF_SPEC=family)
    except NetlinkError:
        return False
    return True


def _allow_v6(ifname: str) -> None:
    """Docker forbids IPv6 on interfaces without an IPv6 address; we give one. If this fails, giving it tells."""
    try:
        with open(f"/proc/sys/net/ipv6/conf/{ifname}/disable_ipv6", "w") as switch:
            switch.write("0")
    except OSError:
        return


def _add_link_local(netlink: IPRoute, index: int, mac: str) -> None:
    """The EUI-64 address the kernel would make, but without duplicate detection: the guards own that question, and
    the kernel would keep the address unusable for a second. Not given where the target forbids IPv6."""
    octets = [int(octet, 16) for octet in mac.split(":")]
    octets[0] ^= 0x02
    eui64 = bytes([*octets[:3], 0xFF, 0xFE, *octets[3:]])
    address = ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + eui64)
    try:
        netlink.addr("add", index=index, address=str(address), prefixlen=64, flags=IFA_F_NODAD, scope=253)
    except NetlinkError as why:
        if why.code not in (errno.EACCES, errno.EPERM, errno.EEXIST):
            raise KernelRefused("give the interface its link-local address", os.strerror(why.code)) from why


def _add_address(netlink: IPRoute, index: int, wanted: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> None:
    prefix = wanted.network.prefixlen
    if wanted.version == 6:
        netlink.addr("add", index=index, address=str(wanted.ip), prefixlen=prefix, flags=IFA_F_NODAD)
    elif prefix < 31:
        broadcast = str(wanted.network.broadcast_address)
        netlink.addr("add", index=index, address=str(wanted.ip), prefixlen=prefix, broadcast=broadcast)
    else:
        netlink.addr("add", index=index, address=str(wanted.ip), prefixlen=prefix)


def _index(netlink: IPRoute, tag: str) -> int:
    """Index of the TAP of `tag` in this namespace, or 0."""
    try:
        found = netlink.link("get", altname=alternative_name(tag))
    except NetlinkError as why:
        if why.code == errno.ENODEV:
            return 0
        raise KernelRefused(f"look for {alternative_name(tag)}", os.strerror(why.code)) from why
    return int(found[0]["index"])


def _facts(
    netlink: IPRoute, place: Place, tag: str, *, created: bool, write_queue: bool = False
) -> TapFacts:
    index = _index(netlink, tag)
    if index == 0:
        raise TapMissing(f"find {alternative_name(tag)}", "the target has no such TAP")
    link = netlink.link("get", index=index)[0]
    return TapFacts(
        ifname=str(link.get("ifname")),
        ifindex=index,
        mac=str(link.get("address")),
        mtu=int(link.get("mtu")),
        namespace_inode=place.target_inode(),
        created=created,
        write_queue=write_queue,
    )


@contextmanager
def blame(step: str, refusal: type[VxlanuError] = KernelRefused) -> Iterator[None]:
    """Turn what the kernel says to `step` into an error by blame: permission, or `refusal`."""
    try:
        yield
    except NetlinkError as why:
        text = os.strerror(why.code)
        if why.code == errno.EPERM:
            raise PermissionMissing(step, text, hint="run the agent as root, or give it CAP_NET_ADMIN") from why
        raise refusal(step, text) from why
    except ValueError as why:
        raise refusal(step, str(why)) from why


@contextmanager
def _taken(what: str, why: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as refusal:
        if refusal.code == errno.EEXIST:
            raise InterfaceTaken(what, why) from refusal
        raise
