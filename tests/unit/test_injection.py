"""When next hops are looked at: the host's netlink is played, the data plane is a real one that does not run."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import cast

import netlink_messages as netlink
import pytest

from vxlanu.agent import changes
from vxlanu.agent import injection as module
from vxlanu.agent.advertise import Underlay
from vxlanu.agent.injection import Injection
from vxlanu.dataplane import Dataplane, Member, NetworkConfig, VtepRef
from vxlanu.nsopen import NamespaceHelper, NextHop, NextHops, OpenedUplink, UplinkFacts
from vxlanu.nsopen.wire import HelperTimeout, KernelRefused

FAR, NETWORK, OWN = VtepRef("192.0.2.2"), bytes(16), "02:00:00:00:00:01"
MAC = "02:00:00:00:00:09"
ANSWER_S = 60.0
AN_HOUR_S = 3600.0  # nothing that a test waits for comes by itself meanwhile


class Host:
    """The helper's half of a host, and its netlink. `mac` is FAR's; empty while nobody knows it. `made` is of TAPs."""

    def __init__(self) -> None:
        self.mac, self.fails, self.looks = MAC, False, 0
        self.broken, self.made, self.refuses = False, 0, False
        self.meanwhile: Callable[[], None] = lambda: None
        self.told: dict[int, Callable[[bytes], None]] = {}

    async def open_uplink(self, ifname: str) -> OpenedUplink:
        """A file stands for the TAP, and its size for which of them it is."""
        if self.refuses:
            raise KernelRefused("make the uplink TAP", "Too many")
        self.made += 1
        self.broken = False
        fd = os.memfd_create("uplink")
        os.write(fd, bytes(self.made))
        return OpenedUplink(UplinkFacts(f"vxlanu_tx{self.made}", 7 + self.made, ifname, 1), fd)

    async def next_hops(self, addresses: Sequence[str], opened: UplinkFacts, source: str) -> NextHops:
        self.looks += 1
        if self.fails:
            raise HelperTimeout("next hops", "no answer")
        if self.broken:
            return NextHops({}, f"{opened.ifname} is gone", broken=True)
        answer = NextHops({address: NextHop(address, self.mac, OWN) for address in addresses})
        self.meanwhile()
        return answer

    def say(self, *messages: bytes) -> None:
        """By netlink."""
        for message in messages:
            self.told[module.CHANGES](message)

    @contextmanager
    def heard(self, groups: int, told: Callable[[bytes], None], _protocol: int = 0) -> Iterator[None]:
        self.told[groups] = told
        yield

    def resolve(self) -> None:
        """FAR's MAC becomes known, as a neighbour message says."""
        self.meanwhile = lambda: None
        self.mac = MAC
        self.say(netlink.neighbour(1, FAR.address, MAC, netlink.REACHABLE))


class Plane:
    """A data plane, and the next hops that it was told."""

    def __init__(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.real = Dataplane("127.0.0.1", port, workers=1, offloads=("vnet-hdr", "tso"))
        self.told: list[tuple[str, str] | None] = []
        self.real.set_network(NETWORK, NetworkConfig(256, 1450))

    def use(self, *vteps: VtepRef) -> None:
        self.real.set_members(NETWORK, frozenset(map(Member, vteps)))

    def path_mtus(self) -> dict[VtepRef, int]:
        return self.real.path_mtus()

    def hops_wanted(self) -> bool:
        return self.real.hops_wanted()

    def offloads(self) -> frozenset[str]:
        return self.real.offloads()

    def inject(self, fd: int) -> None:
        """The descriptor stays the test's."""

    def set_hop(self, vtep: VtepRef, hop: tuple[str, str] | None) -> bool:
        news = self.real.set_hop(vtep, hop)
        if news:
            self.told.append(hop)
        return news


class World:
    """Injection between the two."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host, self.plane = Host(), Plane()
        monkeypatch.setattr(module, "heard", self.host.heard)
        monkeypatch.setattr(module, "SETTLE_S", 0.0)
        monkeypatch.setattr(changes, "REST", 0.0)
        helper, plane = cast(NamespaceHelper, self.host), cast(Dataplane, self.plane)
        self.injection = Injection(helper, plane, Underlay("127.0.0.1", "lo", 1500))
        self.uplink = OpenedUplink(UplinkFacts("vxlanu_tx0", 7, "lo", 1), os.memfd_create("uplink"))
        self.injection._uplink = self.uplink
        self.plane.use(FAR)

    async def after(self, wanted: Callable[[], bool]) -> None:
        """Turn, with a look at the clock at each, until something is so."""
        deadline = asyncio.get_running_loop().time() + ANSWER_S
        while not wanted():
            assert asyncio.get_running_loop().time() < deadline, (self.host.looks, self.plane.told)
            self.injection.check(time.monotonic())
            await asyncio.sleep(0.001)

    def tell(self, *steps: tuple[Callable[[], None], Callable[[], bool]]) -> None:
        """Do each thing, and wait until what it leads to is so."""

        async def all_steps() -> None:
            running = asyncio.create_task(self.injection.run())
            for do, so in steps:
                do()
                await self.after(so)
            looks = self.host.looks
            for _ in range(50):
                self.injection.check(time.monotonic())
                await asyncio.sleep(0.001)
            assert self.host.looks == looks, "there is nothing left to look at"
            running.cancel()

        try:
            asyncio.run(all_steps())
        finally:
            self.plane.real.stop()
            os.close(self.uplink.fd)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def nothing() -> None:
    """No step but to wait."""


def turns(count: int = 20) -> Callable[[], bool]:
    """Something that becomes so with time: enough of it for a look."""
    left = iter(range(count))
    return lambda: next(left, None) is None


def test_a_vtep_that_went_and_came_back_unseen_is_looked_at_again(world: World) -> None:
    def replace() -> None:
        world.plane.use()
        world.plane.use(FAR)

    first, second = [(MAC, OWN)], [(MAC, OWN)] * 2
    world.tell((nothing, lambda: world.plane.told == first), (replace, lambda: world.plane.told == second))


def test_a_neighbour_that_is_resolved_while_we_look_is_not_missed(world: World) -> None:
    world.host.mac, world.host.meanwhile = "", world.host.resolve
    world.tell((nothing, lambda: world.plane.told == [(MAC, OWN)]))


def test_a_next_hop_whose_mac_is_another_is_withdrawn_at_once_though_the_look_has_to_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, both = VtepRef("192.0.2.3"), [(MAC, OWN)] * 2
    monkeypatch.setattr(changes, "REST", 1e9)
    world.plane.use(FAR, other)

    def nothing_new() -> None:
        world.host.say(netlink.neighbour(1, FAR.address, MAC, netlink.REACHABLE))
        world.host.say(netlink.link(1, "lo"))

    def move() -> None:
        assert world.plane.told == both, "positive control"
        world.host.say(netlink.neighbour(1, FAR.address, "02:00:00:00:00:0a", netlink.REACHABLE))

    world.tell(
        (nothing, lambda: world.plane.told == both),
        (nothing_new, turns()),
        (move, turns()),
    )
    assert world.plane.told == [*both, None] and world.host.looks == 1
    assert world.plane.real._hops == {FAR: None, other: (MAC, OWN)}


def test_a_next_hop_that_moves_while_we_look_is_withdrawn_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "REST", 1e9)
    world.host.meanwhile = lambda: world.host.say(netlink.neighbour(1, FAR.address, "", netlink.FAILED))
    world.tell((nothing, lambda: world.plane.told == [(MAC, OWN), None]))
    assert world.host.looks == 1


def test_a_look_that_failed_withdraws_all_and_is_made_again(world: World) -> None:
    def fail() -> None:
        world.host.fails = True
        world.injection._due.set()

    def mend() -> None:
        world.host.fails = False

    world.tell(
        (nothing, lambda: world.plane.told == [(MAC, OWN)]),
        (fail, lambda: world.plane.told[1:] == [None] and not world.injection.rungs()[0].in_use),
        (mend, lambda: world.plane.told[2:] == [(MAC, OWN)] and world.injection.rungs()[0].in_use),
    )


def test_a_refusal_stands_in_status_until_its_own_vtep_has_another_next_hop(world: World) -> None:
    other = VtepRef("192.0.2.3")

    def refuse() -> None:
        world.injection.refused(FAR, 22)
        world.plane.use(FAR, other)

    def move() -> None:
        world.host.mac = "02:00:00:00:00:0a"
        world.injection._due.set()

    world.tell(
        (nothing, lambda: len(world.plane.told) == 1),
        (refuse, lambda: len(world.plane.told) == 2 and not world.injection.rungs()[0].in_use),
        (move, lambda: len(world.plane.told) == 4 and world.injection.rungs()[0].in_use),
    )


def test_a_tap_that_leads_nowhere_is_replaced_under_its_descriptor_but_not_in_haste(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, told = world.host, world.plane.told
    again = [(MAC, OWN), None]

    def break_it() -> None:
        host.broken = True
        world.injection._due.set()

    def made(taps: int) -> bool:
        return os.fstat(world.uplink.fd).st_size == host.made == taps and told == again * taps + again[:1]

    def let_time_pass() -> None:
        assert not world.injection.rungs()[0].in_use
        world.injection._next_make = 0.0

    monkeypatch.setattr(module, "REMAKE_S", AN_HOUR_S)
    world.tell(
        (nothing, lambda: told == again[:1]),
        (break_it, lambda: made(1) and world.injection.rungs()[0].in_use),
        (break_it, lambda: told == again * 2 and host.broken),
        (let_time_pass, lambda: made(2) and world.injection.rungs()[0].in_use),
    )


def test_a_tap_that_cannot_be_replaced_is_said_once_and_tried_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    host = world.host
    caplog.set_level("WARNING", "vxlanu.agent")
    world.injection._pause = 0.0

    def break_it() -> None:
        host.broken = host.refuses = True
        world.injection._due.set()

    def mend() -> None:
        host.refuses = False

    world.tell(
        (nothing, lambda: world.injection.rungs()[0].in_use),
        (break_it, lambda: host.looks > 10),
        (mend, lambda: host.made == 1 and world.injection.rungs()[0].in_use),
    )
    gone, unmade, now = (it.getMessage() for it in caplog.records)
    assert unmade == gone + "; a new one: make the uplink TAP: Too many"
    assert "possible now" in now


def test_a_first_tap_that_was_not_to_be_had_is_tried_again_ever_less_often(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, injection, waits, size = world.host, world.injection, list[float](), list[int]()
    monkeypatch.setattr(module, "REMAKE_MAX_S", 3 * AN_HOUR_S)
    injection._pause = AN_HOUR_S
    host.refuses = True
    asyncio.run(injection.open())
    os.close(world.uplink.fd)
    assert injection._uplink
    world.uplink = injection._uplink
    assert injection.rungs()[0].why == "there is no uplink TAP; a new one: make the uplink TAP: Too many"

    def let_time_pass() -> None:
        waits.append(injection._next_make - time.monotonic())
        injection._next_make = 0.0

    def tried() -> bool:
        return injection._next_make > 0.0

    def mend() -> None:
        host.refuses = False
        let_time_pass()

    world.tell(
        (nothing, lambda: world.plane.told == [] and host.looks == 0),
        (let_time_pass, tried),
        (let_time_pass, tried),
        (mend, lambda: world.plane.told == [(MAC, OWN)] and injection.rungs()[0].in_use),
        (lambda: size.append(os.fstat(world.uplink.fd).st_size), lambda: True),
    )
    assert [round(it / AN_HOUR_S) for it in waits] == [1, 2, 3]
    assert size == [1]


def test_what_does_not_bear_on_injection_starts_no_process(world: World) -> None:
    looks = []

    def containers_come_and_go() -> None:
        looks.append(world.host.looks)
        for number in range(100):
            veth, hosts = f"veth{number}", (netlink.NEW, netlink.DEL)
            world.host.say(*(netlink.link(9 + number, veth, change) for change in hosts))
            world.host.say(*(netlink.route(9 + number, "fe80::/64", change) for change in hosts))
        world.host.say(netlink.neighbour(1, FAR.address, MAC, netlink.REACHABLE))

    def the_uplink_changes() -> None:
        assert world.host.looks == looks[0]
        world.host.say(netlink.link(1, "lo"))

    world.tell(
        (nothing, lambda: world.plane.told == [(MAC, OWN)]),
        (containers_come_and_go, turns()),
        (the_uplink_changes, lambda: world.host.looks == looks[0] + 1),
    )


def test_a_stale_neighbour_is_looked_at_but_not_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def go_stale() -> None:
        world.host.say(netlink.neighbour(1, FAR.address, MAC, netlink.STALE))

    def let_time_pass() -> None:
        assert world.host.looks == 1
        monkeypatch.setattr(module, "STALE_S", 0.0)

    monkeypatch.setattr(module, "STALE_S", AN_HOUR_S)
    world.tell(
        (nothing, lambda: world.plane.told == [(MAC, OWN)]),
        (go_stale, turns()),
        (let_time_pass, lambda: world.host.looks == 2),
    )


@pytest.mark.parametrize(("took", "rest"), [(0.015, 0.3), (2.0, 10.0)])
def test_looks_take_a_small_part_of_the_time(
    world: World, monkeypatch: pytest.MonkeyPatch, took: float, rest: float
) -> None:
    clock, slept = [1000.0], list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0)

    def pass_time() -> None:
        clock[0] += took

    world.host.meanwhile = pass_time
    monkeypatch.setattr(changes, "REST", 20.0)
    for timed in (changes, module):
        monkeypatch.setattr(timed, "time", SimpleNamespace(monotonic=lambda: clock[0]))
        monkeypatch.setattr(timed, "asyncio", SimpleNamespace(sleep=sleep))
    world.tell((nothing, lambda: len(slept) == 2))
    assert slept == [module.SETTLE_S, pytest.approx(rest)]


def test_after_a_while_a_refused_next_hop_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        world.injection.refused(FAR, 22)

    def let_time_pass() -> None:
        assert len(world.plane.told) == 1
        assert not world.injection.rungs()[0].in_use
        monkeypatch.setattr(module, "REFUSED_S", 0.0)

    world.tell(
        (nothing, lambda: world.plane.told == [(MAC, OWN)]),
        (refuse, turns()),
        (let_time_pass, lambda: world.plane.told == [(MAC, OWN), None, (MAC, OWN)]),
    )
    assert world.injection.rungs()[0].in_use


@pytest.mark.parametrize(
    ("offloads", "why"),
    [({"tso"}, ""), ({"uso"}, ""), ({"vnet-hdr"}, "no super-frames: neither tso nor uso is in use")],
    ids=["tso", "uso", "neither"],
)
def test_where_taps_hand_over_no_super_frames_status_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch, offloads: set[str], why: str
) -> None:
    monkeypatch.setattr(world.plane, "offloads", lambda: offloads)
    assert [(it.in_use, it.why) for it in world.injection.rungs()] == [(not why, why)]
    world.plane.real.stop()
