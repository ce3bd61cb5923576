"""The filter that mutes clients, before the kernel that runs it, on sockets of the loopback."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from lab_ns import poll

from vxlanu.dns.limits import MUTED_MAX
from vxlanu.dns.muted import Muted

SO_MEMINFO, MEMINFO = 55, struct.Struct("=9I")  # asm-generic/socket.h; linux/sock_diag.h: the last are the drops
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


class Room:
    """A datagram socket and a listener at one port, and who can reach them."""

    def __init__(self, stack: ExitStack, version: int) -> None:
        self._family, self._host = FAMILIES[version], "127.0.0.1" if version == 4 else "::1"
        self.datagrams = stack.enter_context(socket.socket(self._family, socket.SOCK_DGRAM))
        self.datagrams.bind((self._host, 0))
        self.datagrams.setblocking(False)
        self.listener = stack.enter_context(socket.create_server((self._host, 0), family=self._family))
        self.listener.setblocking(False)
        self.muted = Muted([self.datagrams, self.listener])

    def hears(self, client: str) -> tuple[bool, bool]:
        """A datagram of this client, and a connection: the kernel has queued each, or counted it as dropped."""
        both = (self.datagrams, self.listener)
        before = {it: dropped(it) for it in both}
        with socket.socket(self._family, socket.SOCK_DGRAM) as asking, socket.socket(self._family) as connecting:
            asking.bind((client, 0))
            asking.sendto(client.encode(), self.datagrams.getsockname())
            connecting.bind((client, 0))
            connecting.setblocking(False)
            connecting.connect_ex(self.listener.getsockname())
            for it in both:
                poll(lambda it=it: came(it) or dropped(it) > before[it], what=f"{client} to be heard or dropped")
            heard = came(self.datagrams), came(self.listener)
            if heard[0]:
                assert self.datagrams.recv(100) == client.encode()
            if heard[1]:
                self.listener.accept()[0].close()
        return heard


def came(to: socket.socket) -> bool:
    return bool(select.select([to], [], [], 0)[0])


def dropped(to: socket.socket) -> int:
    """What the kernel has dropped instead of queueing it to a socket."""
    *_, drops = MEMINFO.unpack(to.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO.size))
    return int(drops)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def test_a_muted_client_is_not_heard_until_it_is_again(stack: ExitStack) -> None:
    room = Room(stack, 4)
    assert room.hears("127.0.0.1") == room.hears("127.0.0.9") == (True, True)
    assert room.muted.add("127.0.0.1") and "127.0.0.1" in room.muted
    assert room.hears("127.0.0.1") == (False, False)
    assert room.hears("127.0.0.9") == (True, True), "the control"
    assert room.muted.add("127.0.0.9") and not room.muted.add("127.0.0.9")
    assert room.hears("127.0.0.1") == room.hears("127.0.0.9") == (False, False)
    room.muted.remove("127.0.0.1")
    assert (room.hears("127.0.0.1"), room.hears("127.0.0.9")) == ((True, True), (False, False))
    room.muted.remove("127.0.0.9")
    assert room.hears("127.0.0.1") == room.hears("127.0.0.9") == (True, True)


def test_all_words_of_an_address_count(stack: ExitStack) -> None:
    room = Room(stack, 6)
    for other in ("1::1", "0:0:1::1", "::1:0:1", "::1:0:0:1", "::", "::2", "127.0.0.1"):
        assert room.muted.add(other)
        assert room.hears("::1") == (True, True), other
    assert room.muted.add("::1")
    assert room.hears("::1") == (False, False)


@pytest.mark.parametrize("version", [4, 6])
def test_there_is_room_for_as_many_as_are_muted_and_no_more(stack: ExitStack, version: int) -> None:
    room, own = Room(stack, version), {4: "127.0.0.1", 6: "::1"}[version]
    for number in range(1, MUTED_MAX):
        assert room.muted.add({4: f"10.0.0.{number}", 6: f"fd00:1:2:3:4:5:6:{number}"}[version])
    assert room.hears(own) == (True, True), "the control"
    assert room.muted.add(own)
    assert room.hears(own) == (False, False)
    assert not room.muted.add({4: "10.0.1.1", 6: "fd00::1"}[version])


def test_sockets_that_were_closed_meanwhile_are_no_matter(stack: ExitStack) -> None:
    room = Room(stack, 4)
    room.muted.add("127.0.0.1")
    room.datagrams.close()
    room.listener.close()
    room.muted.remove("127.0.0.1")
    assert "127.0.0.1" not in room.muted
