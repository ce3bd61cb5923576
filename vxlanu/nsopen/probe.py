"""What this kernel's TAPs can do, tried on one that nobody gets.

Rules of this file
  1. Runs in a child only, in a namespace with nothing in it; the device goes with its descriptor.
  2. What cannot be tried is not taken for given, but for what every kernel has that vxlanu runs on (5.10).

Asking is not enough: some stable kernels of 6.1, 6.6 and 6.10 promise TSO and answer EINVAL to every valid super-frame
written (bug e269d79c7d35, mended by 89add40066f9). So a super-frame of two segments is written, TCP and UDP.
"""

from __future__ import annotations

import errno
import os
import struct

import pytun
from pyroute2 import IPRoute

from vxlanu.nsopen import syscalls, tap, tun
from vxlanu.nsopen.place import Place
from vxlanu.nsopen.wire import TUN_F_CSUM, TUN_F_TSO, TUN_F_USO, PermissionMissing, TapFeatures, TapQueues

PAYLOAD, SEGMENT = 1000, 500
ETHERNET, IPV4, TCP, UDP = 14, 20, 20, 8
TUN_F = {"tso": TUN_F_TSO, "uso": TUN_F_USO}


def features(place: Place) -> TapFeatures:
    """Which of vnet-hdr, tso, uso, mq and steering this kernel lacks, and how that showed. Errors: TunMissing."""
    known = tap.check_tun()
    lacking = {
        name: "/dev/net/tun does not know the flag"
        for name, flag in (("vnet-hdr", pytun.IFF_VNET_HDR), ("mq", pytun.IFF_MULTI_QUEUE))
        if not known & flag
    }
    if why_not := _no_steering():
        lacking["steering"] = why_not
    if "vnet-hdr" in lacking:
        return TapFeatures(lacking | dict.fromkeys(TUN_F, "needs vnet-hdr"))
    try:
        place.go_to_scratch()
    except PermissionMissing as why:
        return TapFeatures(lacking | {"uso": f"cannot be tried: {why.why}"})
    return TapFeatures(lacking | _lacking_offloads(multi_queue="mq" not in lacking))


def _no_steering() -> str:
    """Why no program can be loaded; empty if one can. Every kernel that we run on lets a TAP have it."""
    try:
        os.close(syscalls.steering_program(1))
    except OSError as why:
        return f"bpf() gives {errno.errorcode.get(why.errno or 0, str(why))}"
    return ""


def _lacking_offloads(*, multi_queue: bool) -> dict[str, str]:
    name = f"t-{os.getpid()}"
    (fd,) = tap.open_queues(name, TapQueues(multi_queue=multi_queue), pytun.IFF_TUN_EXCL)
    try:
        lacking = _refused(fd)
        with IPRoute() as netlink:
            netlink.link("set", index=netlink.link_lookup(ifname=name)[0], state="up")
        for offload, frame in (("tso", _tcp()), ("uso", _udp())):
            if offload not in lacking and _is_invalid(fd, frame):
                lacking[offload] = "a valid super-frame written to a TAP gives EINVAL"
    finally:
        os.close(fd)
    return lacking


def _refused(fd: int) -> dict[str, str]:
    """From the highest rung down until the kernel takes one."""
    for missing in ((), ("uso",), ("tso",), ("tso", "uso")):
        wanted = sum(bits for name, bits in TUN_F.items() if name not in missing)
        try:
            tun.set_offloads(fd, TUN_F_CSUM | wanted)
        except OSError as why:
            refusal = errno.errorcode.get(why.errno or 0, str(why))
            continue
        return dict.fromkeys(missing, f"TUNSETOFFLOAD gives {refusal}") if missing else {}
    return dict.fromkeys(TUN_F, f"TUNSETOFFLOAD gives {refusal}")


def _is_invalid(fd: int, frame: bytes) -> bool:
    try:
        os.write(fd, frame)
    except OSError as why:
        return why.errno == errno.EINVAL
    return False


def _tcp() -> bytes:
    header = struct.pack("!HHIIBBHHH", 9, 9, 1, 1, 5 << 4, 0x10, 1024, 0, 0)
    return _super_frame(gso_type=1, protocol=6, header=header, checksum_at=16)


def _udp() -> bytes:
    return _super_frame(gso_type=5, protocol=17, header=struct.pack("!HHHH", 9, 9, UDP + PAYLOAD, 0), checksum_at=6)


def _super_frame(*, gso_type: int, protocol: int, header: bytes, checksum_at: int) -> bytes:
    """Virtio header and IPv4 frame of two segments from and to documentation addresses. The sums stay empty: what the
    kernel checks before it takes the frame are the sizes and offsets."""
    length = IPV4 + len(header) + PAYLOAD
    start = ETHERNET + IPV4
    vnet = struct.pack("<BBHHHH", 1, gso_type, start + len(header), SEGMENT, start, checksum_at)
    ethernet = bytes.fromhex("020000000002" "020000000001" "0800")
    addresses = bytes([192, 0, 2, 1, 192, 0, 2, 2])
    ip = struct.pack("!BBHHHBBH", 0x45, 0, length, 1, 0, 64, protocol, 0) + addresses
    return vnet + ethernet + ip + header + bytes(PAYLOAD)
