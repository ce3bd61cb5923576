"""When a path MTU is believed: what links and routes say, against what the fast path ran into."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from vxlanu.agent.paths import REFUSED_S, Paths
from vxlanu.dataplane import Dataplane, VtepRef
from vxlanu.nsopen import NamespaceHelper

FAR = VtepRef("192.0.2.2")


class Host:
    """A link of one width towards FAR, and a fast path that knows a path MTU: both halves of what Paths talks to."""

    def __init__(self) -> None:
        self.link, self.known = 1500, 0

    async def path_mtus_of_links(self, addresses: Sequence[str]) -> dict[str, int]:
        return {address: self.link for address in addresses if self.link}

    def path_mtus(self) -> dict[VtepRef, int]:
        return {FAR: self.known}

    def set_path_mtu(self, vtep: VtepRef, mtu: int) -> None:
        assert vtep == FAR
        self.known = mtu


class Links:
    """The other half, under the name that the helper gives it."""

    def __init__(self, host: Host) -> None:
        self.path_mtus = host.path_mtus_of_links


def paths_of(host: Host) -> Paths:
    return Paths(cast(NamespaceHelper, Links(host)), cast(Dataplane, host))


def test_a_refusal_that_the_link_explains_ends_in_the_links_width() -> None:
    host = Host()
    paths = paths_of(host)
    asyncio.run(paths.look())
    assert host.known == 1500
    host.link, host.known = 1400, 552  # what a forged ICMP error may have made of it
    paths.lowered(FAR)
    asyncio.run(paths.look())
    assert host.known == 1400


def test_a_refusal_that_nothing_explains_stands_until_something_changes() -> None:
    host = Host()
    paths = paths_of(host)
    asyncio.run(paths.look())
    host.known = 1300
    paths.lowered(FAR)
    asyncio.run(paths.look())
    assert host.known == 1300
    paths.changed()
    asyncio.run(paths.look())
    assert host.known == 1500


def test_it_is_tried_again_after_ten_minutes() -> None:
    host = Host()
    paths = paths_of(host)
    asyncio.run(paths.look())
    host.known = 1300
    paths.lowered(FAR, now=0.0)
    paths.check(now=REFUSED_S - 1)
    asyncio.run(paths.look())
    assert host.known == 1300
    paths.check(now=REFUSED_S + 1)
    asyncio.run(paths.look())
    assert host.known == 1500


def test_without_a_route_nothing_is_said() -> None:
    host = Host()
    host.link, host.known = 0, 1400
    asyncio.run(paths_of(host).look())
    assert host.known == 1400


@pytest.mark.parametrize(("link", "known"), [(65536, 65535), (65535, 65535), (500, 576)])
def test_what_the_fast_path_is_told_is_a_width_that_it_takes(link: int, known: int) -> None:
    host = Host()
    host.link = link  # a loopback interface is wider than any IP packet is long
    asyncio.run(paths_of(host).look())
    assert host.known == known


def test_a_vtep_that_went_and_came_back_is_looked_at_again() -> None:
    async def story() -> None:
        host = Host()
        paths = paths_of(host)
        await paths.look()
        paths.check()
        task = asyncio.create_task(paths.run())
        await asyncio.sleep(0)
        host.known = 0  # a new record of the fast path, under the old name
        paths.check()
        while not host.known:
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(asyncio.wait_for(story(), 20))
