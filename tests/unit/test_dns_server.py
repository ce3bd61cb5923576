"""The server on real sockets of the loopback, and the forwarder behind it before a real resolver.

client ── 127.0.0.1 ──► Server (demonet: C0, 300 under the alias `many`) ──► Forwarder ──► Responder
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
from dns_resolver import Responder, at_one_port
from hypothesis import given
from hypothesis import strategies as st
from lab_ns import poll
from names_world import World

from vxlanu.dns import Counters, Forwarder, Resolvers, Server, Zone, limits, resolvers, wire
from vxlanu.dns.forward import Busy
from vxlanu.dns.server import Turns
from vxlanu.dns.zone import AAAA, A

Answer = dns.message.Message
TABLE = {
    ("www.example.org", "A"): ["203.0.113.9"],
    ("long.example.org", "TXT"): [f'"{number:0200}"' for number in range(20)],
}


def zone(*, internal: bool = False) -> Zone:
    world = World()
    world.node("h1")
    network = world.network("demonet", "10.0.0.0/16", internal=internal)
    world.endpoint("h1", "demonet", "C0", "10.0.255.1/16")
    for number in range(300):
        aliases = ["many", "thirty"] if number < 30 else ["many"]
        world.endpoint("h1", "demonet", f"m{number}", f"10.0.{number >> 8}.{number & 255}/16", aliases=aliases)
    return Zone(network, world.view)


class Bench:
    """A server that runs, and how to ask it."""

    def __init__(self, server: Server, counters: Counters, port: int) -> None:
        self.server, self.counters, self.port = server, counters, port

    async def udp(self, name: str, rtype: str = "A", **options: object) -> Answer:
        query = dns.message.make_query(name, rtype, **options)  # type: ignore[arg-type]  # by keywords
        return await asyncio.to_thread(dns.query.udp, query, "127.0.0.1", 30, self.port)

    async def tcp(self, name: str, rtype: str = "A") -> Answer:
        query = dns.message.make_query(name, rtype)
        return await asyncio.to_thread(dns.query.tcp, query, "127.0.0.1", 30, self.port)


@asynccontextmanager
async def serving(
    resolver: Responder | None = None, *, internal: bool = False, addresses: tuple[str, ...] = ("127.0.0.1",)
) -> AsyncIterator[Bench]:
    """The sockets are made as those of a service port are handed over."""
    streams, datagrams = at_one_port("127.0.0.1")
    port = int(streams.getsockname()[1])
    found = Resolvers(list)
    found.now = lambda now: list(addresses) if resolver else []  # type: ignore[method-assign]  # no file
    counters = Counters()
    forwarder = Forwarder(found, resolver.port if resolver else 53)
    server = Server(zone(internal=internal), forwarder, counters, [datagrams], [streams])
    server.open()
    try:
        yield Bench(server, counters, port)
    finally:
        await server.close()


def runs(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 60))  # type: ignore[arg-type]  # a coroutine


def addresses(answer: Answer) -> list[str]:
    return [rdata.to_text() for rrset in answer.answer for rdata in rrset]


def test_a_name_is_answered_by_datagram_and_by_stream() -> None:
    async def scene() -> None:
        async with serving() as bench:
            for ask in (bench.udp, bench.tcp):
                answer = await ask("C0.demonet")
                assert (addresses(answer), answer.answer[0].ttl) == (["10.0.255.1"], limits.ANSWER_TTL_S)
            assert (await bench.udp("nobody.vxlanu.internal")).rcode() == dns.rcode.NXDOMAIN
            assert (await bench.udp("C0", "AAAA")).rcode() == dns.rcode.NOERROR
            assert (await bench.udp("nobody")).rcode() == dns.rcode.REFUSED
            assert (bench.counters.answered, bench.counters.refused) == (4, 1)

    runs(scene)


def test_an_answer_that_needs_it_comes_by_stream() -> None:
    async def scene() -> None:
        async with serving() as bench:
            cut = await bench.udp("many")
            assert cut.flags & dns.flags.TC and 0 < len(addresses(cut)) < 300
            longer = await bench.udp("many", use_edns=0, payload=1232)
            assert longer.flags & dns.flags.TC and len(addresses(longer)) == limits.DATAGRAM_ADDRESSES_MAX
            thirty = await bench.udp("thirty", use_edns=0, payload=1232)
            assert not thirty.flags & dns.flags.TC and len(addresses(thirty)) == 30, "the control: those are all"
            whole = await bench.tcp("many")
            assert not whole.flags & dns.flags.TC and len(set(addresses(whole))) == 300

    runs(scene)


def test_several_holders_are_told_in_turn_also_when_both_families_are_asked() -> None:
    async def scene() -> None:
        async with serving() as bench:
            first = []
            for _ in range(4):
                first.append(addresses(await bench.tcp("many"))[0])
                await bench.tcp("many", "AAAA")
            assert len(set(first)) == 4, first

    runs(scene)


def test_turns_are_of_one_name_and_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vxlanu.dns.server.TURNS_MAX", 2)
    turns, many, other = Turns(), wire.question("many", A), wire.question("other", A)
    for _ in range(3):
        turns.taken(many)
    turns.taken(other)
    assert (turns.now(many), turns.now(other), turns.now(wire.question("many", AAAA))) == (3, 1, 0)
    turns.taken(wire.question("third", A))
    assert (turns.now(many), turns.now(other)) == (0, 1), "whose last turn is longest ago is forgotten"


def test_what_costs_as_much_as_many_questions_counts_as_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection and 300 addresses are eleven questions' worth; a client has twenty."""
    monkeypatch.setattr("vxlanu.dns.server.BURST", 20.0)
    monkeypatch.setattr("vxlanu.dns.server.RATE_PER_S", 0.0)

    async def scene() -> None:
        async with serving() as bench:
            query = dns.message.make_query("many", "A")
            for _ in range(20):
                asked = await asyncio.to_thread(dns.query.udp, query, "127.0.0.1", 30, bench.port, "127.0.0.9")
                assert asked.flags & dns.flags.TC, "the control: by datagram each is one"
            for _ in range(2):
                assert len(addresses(await bench.tcp("many"))) == 300
            with pytest.raises((EOFError, ConnectionResetError)):
                await bench.tcp("c0")
            assert bench.counters.limited == 1

    runs(scene)


def test_foreign_names_are_asked_of_a_resolver_of_the_host() -> None:
    async def scene() -> None:
        with Responder(TABLE) as resolver:
            async with serving(resolver) as bench:
                for ask in (bench.udp, bench.tcp):
                    assert addresses(await ask("www.Example.org")) == ["203.0.113.9"]
                assert (await bench.udp("nobody.example.org")).rcode() == dns.rcode.NXDOMAIN
                assert bench.counters.forwarded == 3
                assert resolver.asked[0] == ("www.example.org", "A")

    runs(scene)


def test_a_long_answer_of_a_resolver_is_fetched_by_stream_for_a_client_that_came_by_stream() -> None:
    async def scene() -> None:
        with Responder(TABLE) as resolver:
            async with serving(resolver) as bench:
                cut = await bench.udp("long.example.org", "TXT", use_edns=0, payload=1232)
                assert cut.flags & dns.flags.TC and resolver.by_stream == 0
                assert len(addresses(await bench.tcp("long.example.org", "TXT"))) == 20
                assert resolver.by_stream == 1

    runs(scene)


def test_foreign_names_are_refused_on_an_internal_network_and_never_leave() -> None:
    async def scene() -> None:
        with Responder(TABLE) as resolver:
            async with serving(resolver, internal=True) as bench:
                assert (await bench.udp("www.example.org")).rcode() == dns.rcode.REFUSED
                assert addresses(await bench.udp("c0")) == ["10.0.255.1"]
                assert resolver.asked == [] and bench.counters.refused == 1

    runs(scene)


def test_the_next_resolver_is_asked_when_one_refuses_or_is_not_there() -> None:
    async def scene() -> None:
        with Responder(TABLE, "127.0.0.3") as good, Responder({}, "127.0.0.2", good.port) as refusing:
            refusing.rcode = dns.rcode.REFUSED
            async with serving(good, addresses=("127.0.0.4", "127.0.0.2", "127.0.0.3")) as bench:
                assert addresses(await bench.udp("www.example.org")) == ["203.0.113.9"]
                assert len(refusing.asked) == 1
                assert addresses(await bench.udp("www.example.org")) == ["203.0.113.9"]
                assert len(refusing.asked) == 1, "the one that answered last is asked first"

    runs(scene)


def test_without_any_answer_the_client_hears_servfail_while_it_still_listens() -> None:
    assert limits.TRY_S * limits.TRIES_MAX < 5, "glibc asks again after five seconds"

    async def scene() -> None:
        with Responder(TABLE) as resolver:
            resolver.silent = True
            async with serving(resolver) as bench:
                assert (await bench.udp("www.example.org")).rcode() == dns.rcode.SERVFAIL
                assert bench.counters.failed == 1
            poll(lambda: len(resolver.asked) == limits.TRIES_MAX, what="the resolver's thread to have its turn")
        async with serving() as bench:
            assert (await bench.udp("www.example.org")).rcode() == dns.rcode.SERVFAIL, "a host without resolvers"

    runs(scene)


def test_answers_to_other_questions_are_not_believed() -> None:
    async def scene() -> None:
        with Responder(TABLE) as resolver:
            lie = dns.message.make_response(dns.message.make_query("www.example.org", "A", id=0))
            lie.answer.append(dns.rrset.from_text("www.example.org.", 60, "IN", "A", "198.51.100.66"))
            resolver.lies = [b"", b"x", lie.to_wire()]
            async with serving(resolver) as bench:
                assert addresses(await bench.udp("www.example.org")) == ["203.0.113.9"]

    runs(scene)


def test_a_question_on_its_way_is_not_asked_again_and_a_client_cannot_fill_the_road(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vxlanu.dns.forward.FORWARDS_OF_CLIENT_MAX", 2)

    async def scene() -> None:
        with Responder(TABLE) as resolver:
            resolver.silent = True
            found = Resolvers(list)
            found.now = lambda now: ["127.0.0.1"]  # type: ignore[method-assign]  # resolv.conf has no ports
            forwarder = Forwarder(found, resolver.port)
            queries = [wire.Query(number, wire.RD, "a.b", A, 1, b"\1a\1b\0\0\1\0\1") for number in range(3)]
            waiting = [asyncio.create_task(forwarder.ask(query, "me", stream=False)) for query in queries[:2]]
            while forwarder.on_their_way < 2:
                await asyncio.sleep(0)
            for query in (queries[0], queries[2]):
                with pytest.raises(Busy):
                    await forwarder.ask(query, "me", stream=False)
            other = asyncio.create_task(forwarder.ask(queries[2], "another", stream=False))
            while forwarder.on_their_way < 3:
                await asyncio.sleep(0)
            for task in (*waiting, other):
                task.cancel()
            await asyncio.gather(*waiting, other, return_exceptions=True)
            assert forwarder.on_their_way == 0

    runs(scene)


def test_a_client_over_its_rate_is_not_heard_and_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clients of the loopback: 127.0.0.1 asks far too often."""
    monkeypatch.setattr("vxlanu.dns.server.BURST", 10.0)
    monkeypatch.setattr("vxlanu.dns.server.RATE_PER_S", 0.0)

    async def scene() -> None:
        async with serving() as bench:
            query = dns.message.make_query("c0", "A")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as greedy:
                for _ in range(50):
                    greedy.sendto(query.to_wire(), ("127.0.0.1", bench.port))
            modest = await asyncio.to_thread(dns.query.udp, query, "127.0.0.1", 30, bench.port, "127.0.0.9")
            assert addresses(modest) == ["10.0.255.1"]
            assert bench.counters.answered == 11
            assert 1 <= bench.counters.limited <= 40, "what came after it was muted, the kernel dropped"

    runs(scene)


def test_a_muted_client_is_heard_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("BURST", 10.0), ("RATE_PER_S", 0.0), ("MUTED_S", 0.2), ("HEARD_AGAIN", 3.0)):
        monkeypatch.setattr(f"vxlanu.dns.server.{name}", value)

    async def scene() -> None:
        async with serving() as bench:
            query = dns.message.make_query("c0", "A").to_wire()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as greedy:
                greedy.connect(("127.0.0.1", bench.port))
                while not bench.counters.limited:
                    greedy.send(query)
                    await asyncio.sleep(0)
                assert bench.counters.answered == 10
                while bench.counters.answered < 13:
                    greedy.send(query)
                    await asyncio.sleep(0.01)
                limited = bench.counters.limited
                while bench.counters.limited == limited:  # three are all that it has then
                    greedy.send(query)
                    await asyncio.sleep(0)
                assert bench.counters.answered == 13

    runs(scene)


def test_a_client_that_connects_without_end_keeps_no_other_from_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vxlanu.dns.server.BURST", 10.0)
    monkeypatch.setattr("vxlanu.dns.server.RATE_PER_S", 0.0)

    async def scene() -> None:
        async with serving() as bench:
            for _ in range(50):
                greedy = socket.socket()
                greedy.setblocking(False)
                greedy.connect_ex(("127.0.0.1", bench.port))
                stack.callback(greedy.close)
            query = dns.message.make_query("c0", "A")
            modest = await asyncio.to_thread(dns.query.tcp, query, "127.0.0.1", 30, bench.port, "127.0.0.9")
            assert addresses(modest) == ["10.0.255.1"]
            assert bench.counters.limited >= 1

    with contextlib.ExitStack() as stack:
        runs(scene)


def test_a_stream_that_says_nothing_or_nonsense_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vxlanu.dns.server.STREAM_IDLE_S", 0.2)

    async def scene() -> None:
        async with serving() as bench:
            for said in (b"", b"\0", b"\0\5abc", b"\0\0", b"\xff\xff" + b"x" * 100, b"\0\3abc"):
                reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
                writer.write(said)
                with contextlib.suppress(ConnectionResetError):  # what the server has not read makes it a reset
                    assert await reader.read() == b"", said
                writer.close()
            monkeypatch.undo()
            assert addresses(await bench.tcp("c0")) == ["10.0.255.1"]

    runs(scene)


def test_without_descriptors_a_listener_is_not_asked_in_every_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vxlanu.dns.server.ACCEPT_AGAIN_S", 0.05)

    async def scene() -> None:
        ready = asyncio.Event()
        streams = Refusing(socket.create_server(("127.0.0.1", 0)), ready)
        server = Server(zone(), Forwarder(Resolvers(list)), Counters(), [], [cast(socket.socket, streams)])
        server.open()
        try:
            loop = asyncio.get_running_loop()
            began = loop.time()
            reader, writer = await asyncio.open_connection(*streams.getsockname())
            await ready.wait()
            assert loop.time() - began > 0.05, "three refusals are two pauses apart"
            query = dns.message.make_query("c0", "A").to_wire()
            writer.write(struct.pack("!H", len(query)) + query)
            assert len(await reader.readexactly(2)) == 2, "it was served in the end"
            writer.close()
        finally:
            await server.close()

    runs(scene)


class Refusing:
    """A listener in a process whose descriptors are used up, three times."""

    def __init__(self, listener: socket.socket, ready: asyncio.Event) -> None:
        self._listener, self._ready, self._left = listener, ready, 3

    def __getattr__(self, name: str) -> object:
        return getattr(self._listener, name)

    def getsockname(self) -> tuple[str, int]:
        host, port = self._listener.getsockname()
        return str(host), int(port)

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        if self._left:
            self._left -= 1
            if not self._left:
                self._ready.set()
            raise OSError(errno.EMFILE, "Too many open files")
        return self._listener.accept()


def test_a_stream_carries_several_questions_and_a_client_has_few_streams() -> None:
    async def scene() -> None:
        async with serving() as bench:
            query = dns.message.make_query("c0", "A").to_wire()
            streams = [
                await asyncio.open_connection("127.0.0.1", bench.port) for _ in range(limits.STREAMS_OF_CLIENT_MAX)
            ]
            for reader, writer in streams:
                writer.write((struct.pack("!H", len(query)) + query) * 2)
                for _ in range(2):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    assert addresses(dns.message.from_wire(await reader.readexactly(length))) == ["10.0.255.1"]
            reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
            assert await reader.read() == b"", "one too many"
            for _, each in (*streams, (reader, writer)):
                each.close()

    runs(scene)


def test_clients_that_hold_every_stream_and_say_nothing_keep_no_other_from_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Eight of them have all sixty-four; one of their own makes room, and each is still answered on another."""
    monkeypatch.setattr("vxlanu.dns.server.STREAM_IDLE_S", 300.0)  # on a busy host the scene lasts longer than it
    silent = [f"127.0.0.{2 + number}" for number in range(limits.STREAMS_MAX // limits.STREAMS_OF_CLIENT_MAX)]

    async def scene() -> None:
        async with serving() as bench:
            held = [
                (client, *await asyncio.open_connection("127.0.0.1", bench.port, local_addr=(client, 0)))
                for client in silent
                for _ in range(limits.STREAMS_OF_CLIENT_MAX)
            ]
            modest, others = await asyncio.open_connection("127.0.0.1", bench.port, local_addr=("127.0.0.90", 0))
            assert await asked(modest, others) == ["10.0.255.1"]
            assert await held[0][1].read() == b"", "the one that waited longest"
            for client in silent:
                last = [(reader, writer) for whose, reader, writer in held if whose == client][-1]
                assert await asked(*last) == ["10.0.255.1"], f"the control: {client} has not lost all"
            for number in range(limits.STREAMS_OF_CLIENT_MAX):
                query = dns.message.make_query("c0", "A")
                found = await asyncio.to_thread(
                    dns.query.tcp, query, "127.0.0.1", 30, bench.port, f"127.0.0.{100 + number}"
                )
                assert addresses(found) == ["10.0.255.1"]
            assert await asked(modest, others) == ["10.0.255.1"], "who has only one does not make room"
            for _, _, writer in held:
                writer.close()
            others.close()

    runs(scene)


def test_a_stream_that_is_being_answered_makes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vxlanu.dns.streams.STREAMS_MAX", 2)
    monkeypatch.setattr("vxlanu.dns.forward.TRIES_MAX", 40)  # on a busy host the resolver is silent for longer

    async def scene() -> None:
        with Responder(TABLE) as resolver:
            resolver.silent = True
            async with serving(resolver) as bench:
                busy = [await asyncio.open_connection("127.0.0.1", bench.port) for _ in range(2)]
                for number, (_, writer) in enumerate(busy):
                    query = dns.message.make_query("www.example.org", "A", id=number).to_wire()
                    writer.write(struct.pack("!H", len(query)) + query)
                    while bench.server._forwarder.on_their_way <= number:
                        await asyncio.sleep(0.01)
                late, writer = await asyncio.open_connection("127.0.0.1", bench.port)
                assert await late.read() == b"", "no room"
                resolver.silent = False  # the next try of the forwarder is answered
                for reader, _ in busy:
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    assert addresses(dns.message.from_wire(await reader.readexactly(length))) == ["203.0.113.9"]
                for each in (writer, *(writer for _, writer in busy)):
                    each.close()

    runs(scene)


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[str]:
    """The addresses of C0, by a connection that stands."""
    query = dns.message.make_query("c0", "A").to_wire()
    writer.write(struct.pack("!H", len(query)) + query)
    (length,) = struct.unpack("!H", await reader.readexactly(2))
    return addresses(dns.message.from_wire(await reader.readexactly(length)))


@given(st.binary(max_size=600), st.booleans())
def test_no_bytes_upset_the_server(data: bytes, stream: bool) -> None:
    said = Server(SMALL, Forwarder(Resolvers(list)), Counters(), [], []).answer(data, stream=stream)
    assert isinstance(said, wire.Query) or len(said) <= (65535 if stream else 1232)


def _small() -> Zone:
    world = World()
    world.node("h1")
    network = world.network("demonet", "10.0.0.0/16")
    world.endpoint("h1", "demonet", "C0", "10.0.255.1/16")
    return Zone(network, world.view)


SMALL = _small()


def test_resolvers_are_those_of_the_file_as_it_is_now(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    lines = ("# nameserver 1.1.1.1", "nameserver 127.0.0.53", "nameserver nonsense", "nameserver fe80::1%lo")
    conf.write_text("\n".join(lines))
    found = Resolvers(lambda: {"192.168.0.1"}, conf)
    assert found.now(0) == ["127.0.0.53", "fe80::1%lo"]
    conf.write_text("nameserver 192.168.0.1\n" + "".join(f"nameserver 10.0.0.{number}\n" for number in range(9)))
    assert found.now(0.5) == ["127.0.0.53", "fe80::1%lo"], "looked at once a second"
    assert found.now(2) == ["10.0.0.0", "10.0.0.1", "10.0.0.2"], "never ourselves, never more than three"
    conf.unlink()
    assert found.now(4) == []
    conf.write_text("nameserver 10.0.0.7\n")
    assert found.now(6) == ["10.0.0.7"]


def test_a_link_local_resolver_is_asked_on_its_link() -> None:
    from vxlanu.dns.forward import _place

    assert _place("fe80::1%lo", 53) == (socket.AF_INET6, ("fe80::1", 53, 0, socket.if_nametoindex("lo")))
    assert _place("192.0.2.1", 53) == (socket.AF_INET, ("192.0.2.1", 53))
    assert resolvers.nameservers("nameserver\t2001:db8::1\n") == ["2001:db8::1"]
