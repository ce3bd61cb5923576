"""Kernel behaviour of TAPs that the design leans on, each tried alone: no vxlanu code in the way.

        birth namespace                 container namespace
        open("/dev/net/tun") ── ip link set … netns ──► the device
        └── the descriptor belongs here, for ever

If one of these fails on some kernel, the place that relies on it is named in the test.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Callable

import pytest
from lab_ns import Namespace, Namespaces, poll

pytestmark = pytest.mark.netns

TUNSETIFF, TUNSETPERSIST, TUNSETOFFLOAD, TUNSETQUEUE = 0x400454CA, 0x400454CB, 0x400454D0, 0x400454D9
IFF_DETACH_QUEUE = 0x0400
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE = 0x0002, 0x1000, 0x4000, 0x0100
FLAGS = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE
TUN_F_CSUM, TUN_F_TSO4, TUN_F_USO = 0x01, 0x02, 0x60
VNET_HEADER = struct.Struct("<BBHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
NEEDS_CSUM = 1
ETHERNET, IPV4, UDP = 14, 20, 8
NEIGHBOUR = bytes.fromhex("020000000002")

# A namespace is a thread's; so a process of its own enters, opens, and sends the descriptors home.
OPENER = """
import fcntl, os, socket, struct, sys
name, flags, queues, channel = sys.argv[1].encode(), int(sys.argv[2]), int(sys.argv[3]), socket.socket(fileno=0)
fds, said = [], b"0"
try:
    for _ in range(queues):
        fds.append(os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK))
        fcntl.ioctl(fds[-1], 0x400454CA, struct.pack("16sH22x", name, flags))
except OSError as why:
    said, fds = str(why.errno).encode(), []
socket.send_fds(channel, [said], fds)
"""


def open_tap(inside: Namespace, name: str, flags: int = FLAGS, queues: int = 1) -> list[int]:
    """Queue descriptors of a TAP opened in `inside`; OSError as the kernel gave it there."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = inside.command(sys.executable, "-c", OPENER, name, str(flags), str(queues))
        subprocess.run(command, stdin=theirs, check=True, timeout=30)
        said, fds, _, _ = socket.recv_fds(ours, 16, queues)
    if said != b"0":
        raise OSError(int(said), os.strerror(int(said)))
    return fds


def exists(inside: Namespace, name: str) -> bool:
    return bool(inside.ip("-br", "link", "show", "dev", name, check=False))


def has_carrier(inside: Namespace, name: str) -> bool:
    return "LOWER_UP" in inside.ip("link", "show", "dev", name)


def move(birth: Namespace, name: str, container: Namespace) -> None:
    birth.ip("link", "set", name, "netns", container.name)


def code_of(act: Callable[[], object]) -> int:
    """The errno it ends with, or 0."""
    try:
        act()
    except OSError as why:
        return why.errno or 0
    return 0


def polled(fd: int) -> int:
    asked = select.poll()
    asked.register(fd, 0)  # POLLERR and POLLHUP are always told
    return sum(events for _, events in asked.poll(0))


def test_the_end_of_a_container_shows_on_a_descriptor_born_outside(namespaces: Namespaces) -> None:
    """nsopen (the nursery), native/worker (EPOLLERR is a vanished port), even if the device is persistent."""
    birth, container = namespaces.make("b"), namespaces.make("c")
    (fd,) = open_tap(birth, "tap0")
    fcntl.ioctl(fd, TUNSETPERSIST, 1)
    move(birth, "tap0", container)
    container.ip("link", "set", "tap0", "up")
    waiting = select.epoll()
    # EPOLLIN, not 0: the kernel wakes the descriptor's readers, and an epoll that asked for nothing is not among them.
    waiting.register(fd, select.EPOLLIN | select.EPOLLET)
    assert not polled(fd), "positive control: while it lives there is no error"
    namespaces.delete(container)
    poll(lambda: any(events & select.EPOLLERR for _, events in waiting.poll(0)), what="epoll to be woken by the end")
    # The error comes first; for a moment the descriptor still has its device.
    poll(lambda: code_of(lambda: os.write(fd, bytes(64))) == errno.EBADFD, what="EBADFD on write")
    assert code_of(lambda: os.read(fd, 100)) == errno.EBADFD
    assert code_of(lambda: fcntl.ioctl(fd, TUNSETPERSIST, 0)) == errno.EBADFD
    os.close(fd)


def test_a_descriptor_opened_inside_pins_the_namespace_and_tells_nothing(namespaces: Namespaces) -> None:
    """netns.EndOfLifeWatch: why an adopted TAP needs it. The witness is a veth whose other end is inside."""
    outside, container = namespaces.make("o"), namespaces.make("c")
    outside.ip("link", "add", "witness", "type", "veth", "peer", "name", "in0", "netns", container.name)
    (fd,) = open_tap(container, "tap0")
    namespaces.delete(container)
    control = namespaces.make("c2")
    outside.ip("link", "add", "control", "type", "veth", "peer", "name", "in0", "netns", control.name)
    namespaces.delete(control)
    poll(lambda: not exists(outside, "control"), what="a namespace that nobody holds to be freed")
    assert exists(outside, "witness"), "the one that the descriptor holds is not"
    assert not polled(fd)
    os.close(fd)
    poll(lambda: not exists(outside, "witness"), what="the namespace to be freed with the descriptor")


def test_a_persistent_tap_survives_the_last_close_without_carrier(namespaces: Namespaces) -> None:
    """endpoints.leave: the container keeps its interface while the agent is away."""
    container = namespaces.make("c")
    (kept,), (lost,) = open_tap(container, "kept0"), open_tap(container, "lost0")
    fcntl.ioctl(kept, TUNSETPERSIST, 1)
    container.ip("link", "set", "kept0", "up")
    container.ip("addr", "add", "192.0.2.1/24", "dev", "kept0")
    assert has_carrier(container, "kept0")
    os.close(kept)
    os.close(lost)
    poll(lambda: not exists(container, "lost0"), what="the device that is not persistent to go")
    assert "192.0.2.1" in container.ip("addr", "show", "dev", "kept0")
    assert not has_carrier(container, "kept0")
    (again,) = open_tap(container, "kept0")
    assert has_carrier(container, "kept0")
    os.close(again)


def test_a_tap_can_be_opened_by_its_altname_after_a_rename(namespaces: Namespaces) -> None:
    """nsopen.tap.adopt: the container may call its interface what it likes."""
    container = namespaces.make("c")
    (fd,) = open_tap(container, "tap0")
    fcntl.ioctl(fd, TUNSETPERSIST, 1)
    container.ip("link", "property", "add", "dev", "tap0", "altname", "v-0123456789ab")
    container.ip("link", "set", "tap0", "name", "eth0")
    os.close(fd)
    assert not has_carrier_when_up(container, "eth0")
    (again,) = open_tap(container, "v-0123456789ab")
    assert has_carrier_when_up(container, "eth0")
    assert len(container.ip("-br", "link").splitlines()) == 2, "lo and eth0: no new device was made"
    os.close(again)


def has_carrier_when_up(inside: Namespace, name: str) -> bool:
    inside.ip("link", "set", name, "up")
    return has_carrier(inside, name)


def test_a_name_that_is_not_there_makes_a_new_device(namespaces: Namespaces) -> None:
    """nsopen.tap.adopt: why it looks at what it got."""
    container = namespaces.make("c")
    (fd,) = open_tap(container, "v-0123456789ab")
    assert exists(container, "v-0123456789ab")
    os.close(fd)


def test_the_multi_queue_flag_must_match_at_re_opening(namespaces: Namespaces) -> None:
    """nsopen.tap.FLAGS: always set, because the number of workers may change between two lives of an agent."""
    container = namespaces.make("c")
    for first, second in ((FLAGS, FLAGS & ~IFF_MULTI_QUEUE), (FLAGS & ~IFF_MULTI_QUEUE, FLAGS)):
        (fd,) = open_tap(container, "tap0", first)
        fcntl.ioctl(fd, TUNSETPERSIST, 1)
        os.close(fd)
        with pytest.raises(OSError) as refused:
            open_tap(container, "tap0", second)
        assert refused.value.errno == errno.EINVAL
        (again,) = open_tap(container, "tap0", first)
        fcntl.ioctl(again, TUNSETPERSIST, 0)
        os.close(again)
        poll(lambda: not exists(container, "tap0"), what="the device to go")


def test_more_or_fewer_queues_can_be_opened_later(namespaces: Namespaces) -> None:
    """nsopen.tap.adopt with another number of workers than before."""
    container = namespaces.make("c")
    fds = open_tap(container, "tap0", queues=2)
    fcntl.ioctl(fds[0], TUNSETPERSIST, 1)
    for fd in fds:
        os.close(fd)
    for queues in (1, 4):
        again = open_tap(container, "tap0", queues=queues)
        assert len(again) == queues
        for fd in again:
            os.close(fd)


def test_clearing_the_persistence_deletes_the_device_with_the_last_close(namespaces: Namespaces) -> None:
    """endpoints.close: deletion by descriptor, from outside the namespace, also when the caller cannot enter it."""
    birth, container = namespaces.make("b"), namespaces.make("c")
    first, second = open_tap(birth, "tap0", queues=2)
    fcntl.ioctl(first, TUNSETPERSIST, 1)
    move(birth, "tap0", container)
    fcntl.ioctl(first, TUNSETPERSIST, 0)
    os.close(first)
    assert exists(container, "tap0"), "another queue is open"
    os.close(second)
    poll(lambda: not exists(container, "tap0"), what="the device to go")


@pytest.mark.parametrize("offload", [0, TUN_F_CSUM])
def test_with_checksum_offload_frames_come_with_needs_csum(namespaces: Namespaces, offload: int) -> None:
    """native/tap: what the lowest rung of the offload ladder asks for, and gets."""
    container = namespaces.make("c")
    (fd,) = open_tap(container, "tap0")
    fcntl.ioctl(fd, TUNSETOFFLOAD, offload)
    container.ip("link", "set", "tap0", "up")
    container.ip("addr", "add", "192.0.2.1/24", "dev", "tap0")
    container.ip("neigh", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:02", "dev", "tap0")
    send = "import socket; socket.socket(2, 2).sendto(b'x' * 100, ('192.0.2.2', 9))"
    container.run(sys.executable, "-c", send)
    frame = next_frame(fd, lambda frame: frame[12:14] == b"\x08\x00" and frame[ETHERNET + 9] == socket.IPPROTO_UDP)
    flags, _, _, _, start, offset = VNET_HEADER.unpack_from(frame.header)
    expected = (NEEDS_CSUM, ETHERNET + IPV4, 6) if offload else (0, 0, 0)
    assert (flags, start, offset) == expected
    assert (checksum(pseudo_header(frame.data) + frame.data[ETHERNET + IPV4 :]) == 0) is not bool(offload)
    os.close(fd)


def test_the_virtio_header_is_the_choice_of_who_opens_first_again(namespaces: Namespaces) -> None:
    """nsopen.tap.adopt: an agent on another rung of the ladder than the one that made the TAP."""
    container = namespaces.make("c")
    sizes = []
    for flags in (FLAGS, FLAGS & ~IFF_VNET_HDR, FLAGS):
        (fd,) = open_tap(container, "tap0", flags)
        fcntl.ioctl(fd, TUNSETPERSIST, 1)
        neighbour(container)
        sent_by(container, 100)
        frame = next_frame(fd, lambda frame: b"x" * 100 in frame)
        sizes.append(len(frame) - ETHERNET - IPV4 - UDP - 100)
        os.close(fd)
    assert sizes == [VNET_HEADER.size, 0, VNET_HEADER.size]


def test_what_an_owner_promised_to_take_outlives_its_descriptors(namespaces: Namespaces) -> None:
    """nsopen.tap.adopt: why offloads are revoked before a TAP is opened without the virtio header."""
    container = namespaces.make("c")
    seen = []
    for offload in (TUN_F_CSUM, None, 0, None):
        (fd,) = open_tap(container, "tap0")
        fcntl.ioctl(fd, TUNSETPERSIST, 1)
        if offload is not None:
            fcntl.ioctl(fd, TUNSETOFFLOAD, offload)
        neighbour(container)
        sent_by(container, 100)
        seen.append(next_frame(fd, lambda frame: b"x" * 100 in frame).header[0])
        os.close(fd)
    assert seen == [NEEDS_CSUM, NEEDS_CSUM, 0, 0]


def neighbour(container: Namespace) -> None:
    """192.0.2.2 behind tap0, without a question."""
    container.ip("link", "set", "tap0", "up")
    container.ip("addr", "replace", "192.0.2.1/24", "dev", "tap0")
    container.ip("neigh", "replace", "192.0.2.2", "lladdr", NEIGHBOUR.hex(":"), "dev", "tap0")
    # A device that was without carrier sends nothing until linkwatch has seen it return.
    poll(lambda: "state DOWN" not in container.ip("link", "show", "dev", "tap0"), what="a device that sends")


def mac_of(container: Namespace) -> str:
    shown: str = json.loads(container.ip("-j", "link", "show", "dev", "tap0"))[0]["address"]
    return shown


def sent_by(container: Namespace, size: int, options: str = "pass", port: int = 7000) -> None:
    """One UDP datagram of `size` x from the container's `port` to 192.0.2.2, port 9."""
    send = f"s.bind(('', {port})); {options}; s.sendto(b'x' * {size}, ('192.0.2.2', 9))"
    container.run(sys.executable, "-c", f"import socket; s = socket.socket(2, 2); {send}")


def from_neighbour(container: Namespace, port: int) -> bytes:
    """The other direction of that flow, as it is written to the TAP."""
    mac = bytes.fromhex(mac_of(container).replace(":", ""))
    ip = struct.pack("!BBHHHBBH", 0x45, 0, IPV4 + UDP + 4, 0, 0, 64, socket.IPPROTO_UDP, 0)
    ip += bytes([192, 0, 2, 2, 192, 0, 2, 1])
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return bytes(VNET_HEADER.size) + mac + NEIGHBOUR + b"\x08\x00" + ip + struct.pack("!HHHH", 9, port, 12, 0) + b"back"


def queue_of(container: Namespace, fds: list[int], port: int) -> int:
    """Which descriptor a datagram of that flow comes out of."""
    sent_by(container, 100, port=port)

    def look() -> int:
        for number, fd in enumerate(fds, 1):
            while select.select([fd], [], [], 0)[0]:
                if b"x" * 100 in os.read(fd, 65536):
                    return number
        return 0

    return poll(look, what="the datagram on some queue") - 1


def detached(inside: Namespace) -> int:
    """A first queue of tap0, detached."""
    (fd,) = open_tap(inside, "tap0")
    fcntl.ioctl(fd, TUNSETQUEUE, struct.pack("16sH22x", b"", IFF_DETACH_QUEUE))
    return fd


def test_a_flow_moves_to_the_queue_that_its_other_direction_is_written_to(namespaces: Namespaces) -> None:
    """native/net.h, vx_port_writer(): the trouble that the write queue is there for, and that it is none with one."""
    container = namespaces.make("c")
    writer = detached(container)
    fds = open_tap(container, "tap0", queues=4)
    neighbour(container)
    for port in (7000, 7001, 7002):
        before = queue_of(container, fds, port)
        for _ in range(3):
            os.write(writer, from_neighbour(container, port))
            assert queue_of(container, fds, port) == before, "written by the detached queue it stays"

        def moved(target: int, port: int = port) -> bool:  # each time anew: the kernel forgets it within some seconds
            os.write(fds[target], from_neighbour(container, port))
            return queue_of(container, fds, port) == target

        poll(lambda: moved((before + 1) % 4), what="written by an attached one it moves there")  # noqa: B023
    for fd in (writer, *fds):
        os.close(fd)


def test_a_detached_queue_delivers_and_is_never_read(namespaces: Namespaces) -> None:
    """native/worker: the write queue is watched by nobody, and no frame can wait in it."""
    container = namespaces.make("c")
    writer = detached(container)
    fds = open_tap(container, "tap0", queues=2)
    neighbour(container)
    listen = "import socket; s = socket.socket(2, 2); s.bind(('192.0.2.1', 7000)); print('on', flush=True)"
    listening = container.start(sys.executable, "-c", listen + "; print(s.recv(9))")
    assert listening.stdout and listening.stdout.readline() == "on\n"
    os.write(writer, from_neighbour(container, 7000))
    assert listening.stdout.readline() == "b'back'\n"
    found = {queue_of(container, fds, port) for port in range(7001, 7017)}
    assert found == {0, 1}, "16 flows are spread over the two queues that are attached"
    assert not select.select([writer], [], [], 0)[0]
    for fd in (writer, *fds):
        os.close(fd)


@pytest.mark.parametrize(
    ("bound", "whole"), [(("gso_max_size", "61833"), True), (("gso_max_segs", "44"), False)], ids=["bytes", "segments"]
)
def test_a_bound_in_bytes_fits_tcp_to_a_send_and_leaves_udp_whole(
    namespaces: Namespaces, bound: tuple[str, str], whole: bool
) -> None:
    """nsopen.tap.gso_bytes: at MTU 1450, 44 segments fill a send, and so do sixty small datagrams."""
    container = namespaces.make("c")
    (fd,) = open_tap(container, "tap0")
    fcntl.ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_USO)
    container.ip("link", "set", "tap0", "mtu", "1450", *bound)
    neighbour(container)
    sent_by(container, 60 * 1000, "s.setsockopt(17, 103, 1000)")
    first = next_frame(fd, lambda frame: b"x" * 1000 in frame)
    assert (len(first.data) == ETHERNET + IPV4 + UDP + 60 * 1000) is whole
    assert segments_of_bulk_tcp(namespaces, container, fd) == 44
    os.close(fd)


def segments_of_bulk_tcp(namespaces: Namespaces, container: Namespace, fd: int) -> int:
    """Segments of the largest super-frame of a TCP stream to a second TAP, its frames carried over here."""
    peer = namespaces.make("p")
    (other,) = open_tap(peer, "tap0")
    mac = mac_of(container)
    peer.ip("link", "set", "tap0", "address", NEIGHBOUR.hex(":"), "mtu", "1450", "up")
    peer.ip("addr", "add", "192.0.2.2/24", "dev", "tap0")
    peer.ip("neigh", "add", "192.0.2.1", "lladdr", mac, "dev", "tap0")
    serve = "import socket; c = socket.create_server(('192.0.2.2', 5001)); print(1, flush=True); c = c.accept()[0]"
    listening = peer.start(sys.executable, "-c", serve + "\nwhile c.recv(1 << 20): pass")
    assert listening.stdout and listening.stdout.readline()
    stream = "import socket; c = socket.create_connection(('192.0.2.2', 5001)); c.sendall(bytes(64 << 20))"
    sending = container.start(sys.executable, "-c", stream)
    largest = 0

    def carried() -> bool:
        nonlocal largest
        for source, target in ((fd, other), (other, fd)):
            while select.select([source], [], [], 0)[0]:
                frame = os.read(source, 1 << 17)
                size = VNET_HEADER.unpack_from(frame)[3]
                if VNET_HEADER.unpack_from(frame)[1] == 1:
                    largest = max(largest, -(-(len(frame) - VNET_HEADER.size - ETHERNET - IPV4 - 32) // size))
                os.write(target, frame)
        return largest >= 44 or sending.poll() is not None

    poll(carried, what="a full super-frame, or 64 MB to be carried")
    os.close(other)
    return largest


class Frame(bytes):
    """What one read of the TAP gave."""

    @property
    def header(self) -> bytes:
        return self[: VNET_HEADER.size]

    @property
    def data(self) -> bytes:
        return self[VNET_HEADER.size :]


def next_frame(fd: int, wanted: Callable[[bytes], bool]) -> Frame:
    def look() -> Frame | None:
        while select.select([fd], [], [], 0)[0]:
            frame = Frame(os.read(fd, 65536))
            if wanted(frame.data):
                return frame
        return None

    found = poll(look, what="the frame")
    assert found
    return found


def pseudo_header(frame: bytes) -> bytes:
    length = len(frame) - ETHERNET - IPV4
    return frame[ETHERNET + 12 : ETHERNET + 20] + struct.pack("!BBH", 0, socket.IPPROTO_UDP, length)


def checksum(data: bytes) -> int:
    """RFC 1071; 0 over data that carries its own right checksum."""
    padded = data + bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
