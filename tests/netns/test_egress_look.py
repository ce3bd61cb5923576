"""The look into containers, whether their way out is whole: against a kernel, with iproute2 as whoever breaks it.

    t: eth1 (altname e-..., 172.18.0.2/16, default route) ── veth ── p0: its other end
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec.structs
import pytest
from lab_ns import Namespace, Namespaces

from vxlanu.nsopen import NamespaceHelper, WayOut
from vxlanu.nsopen.wire import EgressLook

pytestmark = pytest.mark.netns

TAG, OTHER = "0123456789ab", "ba9876543210"
MANY = 20_000
NO_TEXT = os.fsdecode(b"\xff")


@dataclass(frozen=True)
class Wired:
    """Two targets that are whole, and what the look says of them."""

    helper: NamespaceHelper
    first: Namespace
    second: Namespace
    ways: tuple[WayOut, ...]

    def lacking(self) -> list[str]:
        return self.helper.call_sync(EgressLook(self.ways), timeout=60)


def wire(namespace: Namespace, tag: str) -> WayOut:
    for command in (
        "link add eth1 type veth peer name p0 mtu 1500", f"link property add dev eth1 altname e-{tag}",
        "addr add 172.18.0.2/16 dev eth1", "link set p0 up", "link set eth1 up", "route add default via 172.18.0.1",
    ):  # fmt: skip
        namespace.ip(*command.split())
    status = namespace.path.stat()
    return WayOut(tag, "eth1", "172.18.0.2/16", str(namespace.path), status.st_dev, status.st_ino)


@pytest.fixture(scope="module")
def helper() -> Iterator[NamespaceHelper]:
    started = NamespaceHelper.start()
    yield started
    started.close()


@pytest.fixture
def wired(helper: NamespaceHelper, namespaces: Namespaces) -> Wired:
    first, second = namespaces.make("a"), namespaces.make("b")
    made = Wired(helper, first, second, (wire(first, TAG), wire(second, OTHER)))
    assert made.lacking() == []
    return made


@pytest.mark.parametrize(
    ("lost", "back"),
    [
        ("addr del 172.18.0.2/16 dev eth1", "addr add 172.18.0.2/16 dev eth1; route add default via 172.18.0.1"),
        ("route del default", "route add default via 172.18.0.1"),
        ("route del default; route add default via 172.18.0.1 table 100", "route add default via 172.18.0.1"),
        ("route del default; route add blackhole default", "route add default via 172.18.0.1 metric 7"),
        ("route del default; route add 0.0.0.0/1 via 172.18.0.1", "route add default via 172.18.0.1"),
        ("link set eth1 down", "link set eth1 up; route add default via 172.18.0.1"),
        (f"link property del dev eth1 altname e-{TAG}", f"link property add dev eth1 altname e-{TAG}"),
        (f"link property del dev eth1 altname e-{TAG}; link property add dev p0 altname e-{TAG}",
         f"link property del dev p0 altname e-{TAG}; link property add dev eth1 altname e-{TAG}"),
        ("link set eth1 down; link set eth1 name eth9; link set eth9 up; route add default via 172.18.0.1",
         "link set eth9 down; link set eth9 name eth1; link set eth1 up; route add default via 172.18.0.1"),
    ],
)  # fmt: skip
def test_what_is_lost_inside_of_one_target_is_seen_there_until_it_is_back(wired: Wired, lost: str, back: str) -> None:
    for command in lost.split(";"):
        wired.first.ip(*command.split())
    assert wired.lacking() == [TAG], wired.first.story()
    for command in back.split(";"):
        wired.first.ip(*command.split())
    assert wired.lacking() == [], wired.first.story()


def test_a_target_keeps_what_it_has_besides(wired: Wired) -> None:
    for command in ("addr add 10.1.2.3/24 dev eth1", "route replace default dev p0",
                    "link property add dev eth1 altname mine"):  # fmt: skip
        wired.first.ip(*command.split())
    assert wired.lacking() == []


def test_many_addresses_and_routes_of_a_containers_own_hide_nothing(wired: Wired, tmp_path: Path) -> None:
    batch = tmp_path / "batch"
    numbers = [f"{number >> 8}.{number & 255}" for number in range(MANY)]
    routes = [f"route add 10.{it}/32 via 172.18.0.1" for it in numbers]
    batch.write_text("\n".join([*routes, *(f"addr add 11.{it}/32 dev eth1" for it in numbers[:2000])]))
    wired.first.ip("-batch", str(batch))
    assert wired.lacking() == []
    wired.first.ip("route", "del", "default")
    assert wired.lacking() == [TAG]


@pytest.mark.parametrize(
    ("done", "lacking", "undone"),
    [
        (f"link set eth1 down; link set eth1 name {NO_TEXT}", [TAG],
         f"link set {NO_TEXT} name eth1; link set eth1 up; route add default via 172.18.0.1"),
        ("addr add 10.9.9.9 peer 0.0.0.0 dev eth1", [], "addr del 10.9.9.9 dev eth1"),
        ("addr del 172.18.0.2/16 dev eth1; addr add 172.18.0.3 peer 172.18.0.2 dev eth1;"
         "route add default dev eth1", [TAG], "addr add 172.18.0.2/16 dev eth1"),
    ],
    ids=["a name that is no text", "an address without a peer", "ours as another's peer"],
)  # fmt: skip
def test_what_a_container_calls_and_addresses_as_it_likes_stops_no_other(
    wired: Wired, done: str, lacking: list[str], undone: str
) -> None:
    for command in done.split(";"):
        wired.first.ip(*command.split())
    assert wired.lacking() == lacking
    wired.second.ip("link", "set", "eth1", "down")
    assert wired.lacking() == [*lacking, OTHER]
    for command in undone.split(";"):
        wired.first.ip(*command.split())
    assert wired.lacking() == [OTHER], wired.first.story()


def test_a_target_that_has_ended_or_is_another_now_lacks_nothing(wired: Wired, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    first, second = wired.ways
    second_ended = msgspec.structs.replace(second, path="/run/netns/no-such-target")
    assert replace(wired, ways=(first, second_ended)).lacking() == []
    for path, inode in ((second.path, first.inode), (first.path, second.inode), (str(fifo), first.inode)):
        there_is_another = msgspec.structs.replace(first, path=path, inode=inode)
        wired.second.ip("link", "set", "eth1", "down")
        assert replace(wired, ways=(there_is_another, second)).lacking() == [OTHER]


def test_what_cannot_be_entered_stops_no_other(wired: Wired, tmp_path: Path) -> None:
    """Whoever is to mend it learns why."""
    status = tmp_path.stat()
    broken = msgspec.structs.replace(wired.ways[0], path=str(tmp_path), device=status.st_dev, inode=status.st_ino)
    wired.second.ip("link", "set", "eth1", "down")
    assert replace(wired, ways=(broken, wired.ways[1])).lacking() == [TAG, OTHER]
