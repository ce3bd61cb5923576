"""The underlay that other tests stand on: if these fail, look here before you look at the overlay.

h1 ── br0 ── h2        (lab_ns.Underlay, with a third host that is on no cable of theirs)
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from lab_ns import Namespaces, Underlay, pids_in, poll, run

pytestmark = pytest.mark.netns


def test_hosts_reach_each_other_over_both_families_until_the_cable_is_pulled(
    namespaces: Namespaces, underlay: Callable[..., Underlay]
) -> None:
    net = underlay(hosts=2)
    first, _ = net.hosts
    alone = namespaces.make("x")
    addresses = (net.v4(2), net.v6(2))
    for address in addresses:
        poll(lambda: first.pings(address, wait=1), what=f"{address} answers", story=first.story)  # noqa: B023
        assert not alone.pings(address, wait=1), "no way from a namespace without a cable"
    net.cut(2)
    assert [first.pings(address, wait=1) for address in addresses] == [False, False]
    net.mend(2)
    for address in addresses:
        poll(lambda: first.pings(address, wait=1), what=f"{address} again", story=net.switch.story)  # noqa: B023


@pytest.mark.parametrize("mtu", [1500, 9000])
def test_the_mtu_is_that_of_the_whole_way(underlay: Callable[..., Underlay], mtu: int) -> None:
    net = underlay(hosts=2, mtu=mtu)

    def fits(octets: int) -> bool:
        asked = net.hosts[0].command("ping", "-nqc1", "-W1", "-Mdo", f"-s{octets - 28}", net.v4(2))
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0

    poll(lambda: fits(mtu), what=f"{mtu} octets arrive")
    assert not fits(mtu + 1)


def test_cleaning_up_ends_what_runs_inside_and_nothing_else() -> None:
    made, kept = Namespaces(), Namespaces()
    try:
        inside, outside = made.make("c"), kept.make("c")
        victim, bystander = inside.start("sleep", "600"), outside.start("sleep", "600")
        poll(lambda: pids_in({inside.inode}) == [victim.pid], what="the one has entered")
        poll(lambda: pids_in({outside.inode}) == [bystander.pid], what="the other has entered")
        made.close()
        assert victim.wait(60) == -9
        assert inside.name not in run("ip", "netns", "list")
        assert bystander.poll() is None
    finally:
        made.close()
        kept.close()
    assert bystander.wait(60) == -9
