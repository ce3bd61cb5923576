"""The ioctls of a TAP descriptor that pytun does not offer.

Rules of this file
  1. Everything acts on a descriptor, never on a name: names mean something else in every namespace.

Numbers: include/uapi/linux/if_tun.h. They hold for x86, Arm, RISC-V, LoongArch and s390; MIPS, PowerPC and SPARC
encode the direction of an ioctl differently.
"""

from __future__ import annotations

import fcntl
import os
import struct

TUNSETPERSIST = 0x400454CB
TUNGETFEATURES = 0x800454CF
TUNSETOFFLOAD = 0x400454D0
TUNGETIFF = 0x800454D2
TUNSETSNDBUF = 0x400454D4
TUNSETVNETHDRSZ = 0x400454D8
TUNSETQUEUE = 0x400454D9
TUNSETVNETLE = 0x400454DC
TUNSETSTEERINGEBPF = 0x800454E0
TUNGETDEVNETNS = 0x54E3

IFF_TAP = 0x0002
IFF_MULTI_QUEUE = 0x0100
IFF_DETACH_QUEUE = 0x0400
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
VNET_HEADER_BYTES = 10  # struct virtio_net_hdr; the two more of mergeable buffers say nothing here
IFREQ_BYTES = 40


def prepare_queue(fd: int, vnet_hdr: bool, offloads: int) -> None:
    """What every queue descriptor needs after TUNSETIFF, after a re-opening too: the last close forgets it.

    Little endian is said aloud: "legacy virtio" would mean the byte order of the host.
    """
    os.set_blocking(fd, False)
    if vnet_hdr:
        fcntl.ioctl(fd, TUNSETVNETLE, struct.pack("i", 1))
        fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("i", VNET_HEADER_BYTES))
    set_offloads(fd, offloads if vnet_hdr else 0)


def set_offloads(fd: int, offloads: int) -> None:
    """Which unfinished frames the device may hand over, TUN_F_. EINVAL: one of them is not known to this kernel."""
    fcntl.ioctl(fd, TUNSETOFFLOAD, offloads)


def detach(fd: int) -> None:
    """Take a queue out of those that the kernel spreads frames over. It can still be written to."""
    fcntl.ioctl(fd, TUNSETQUEUE, struct.pack("16sH22x", b"", IFF_DETACH_QUEUE))


def steer(fd: int, program: int) -> None:
    """Let a program pick the queue of each frame; -1: the kernel's own way. The device keeps it over its owners."""
    fcntl.ioctl(fd, TUNSETSTEERINGEBPF, struct.pack("i", program))


def known_flags(fd: int) -> int:
    """The IFF_ flags that this kernel knows, asked of any descriptor of /dev/net/tun."""
    return int(struct.unpack("I", fcntl.ioctl(fd, TUNGETFEATURES, bytes(4)))[0])


def set_persistent(fd: int, wanted: bool) -> None:
    """Whether the device outlives its last descriptor. EBADFD: the device has gone already."""
    fcntl.ioctl(fd, TUNSETPERSIST, int(wanted))


def interface_of(fd: int) -> tuple[str, int]:
    """Current name and IFF_ flags of the device behind a descriptor. EBADFD: it has gone."""
    answer = fcntl.ioctl(fd, TUNGETIFF, bytes(IFREQ_BYTES))
    name, flags = struct.unpack_from("16sH", answer)
    return name.split(b"\0", 1)[0].decode(), int(flags)


def namespace_of(fd: int) -> int:
    """Inode of the network namespace that the device is in now. EBADFD: it has gone; EPERM: not ours to ask."""
    namespace = int(fcntl.ioctl(fd, TUNGETDEVNETNS))
    try:
        return os.fstat(namespace).st_ino
    finally:
        os.close(namespace)
