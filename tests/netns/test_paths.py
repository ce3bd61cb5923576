"""An underlay that grows narrower under a running overlay, and wide again.

c1-1          c2-1        blue 192.168.9.0/24 and an IPv6 prefix, MTU 1450
 h1 ══════════ h2         the cable: 1500 bytes, 1300 or 1400 for a while
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from streams import pings

from vxlanu.lab.topology import Lab, poll

pytestmark = pytest.mark.netns

HOSTS = ("h1", "h2")


class Way:
    """One network over two hosts, and the width of the cable between them."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        lab.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.9.0/24", "--ipv6")
        bodies = [lab.vxlanu(f"h{number}", "attach", "blue", f"c{number}-1") for number in (1, 2)]
        texts = [text.split("/")[0] for text in bodies[1]["addresses"]]
        self.v4, self.v6 = sorted(texts, key=lambda text: ":" in text)

    def believed(self) -> list[int]:
        """What each host takes for the path MTU to the other."""
        rows = [row for host in HOSTS for row in self.lab.vxlanu(host, "vtep", "ls")]
        return [row["path_mtu"] for row in rows if row["state"] != "self"]

    def set(self, mtu: int) -> None:
        for host in HOSTS:
            self.lab.exec(host, ["ip", "link", "set", "eth0", "mtu", str(mtu)])

    @contextmanager
    def narrowed(self, mtu: int) -> Iterator[None]:
        """The cable takes `mtu` bytes inside the block, and the containers have forgotten everything after it."""
        self.set(mtu)
        try:
            poll(lambda: self.believed() == [mtu, mtu], what=f"both hosts know {mtu}")
            yield
        finally:
            self.set(1500)
            poll(lambda: self.believed() == [1500, 1500], what="both hosts know 1500 again")
            for name in ("c1-1", "c2-1"):
                self.lab.exec(name, ["ip", "route", "flush", "cache"])
                self.lab.exec(name, ["ip", "-6", "route", "flush", "cache"])


@pytest.fixture(scope="module")
def way(make_module_lab: Callable[..., Lab]) -> Way:
    made = Way(make_module_lab(hosts=2, containers=1))
    poll(lambda: pings(made.lab, "c1-1", made.v4) and pings(made.lab, "c1-1", made.v6), what="both families answer")
    return made


def test_the_path_mtu_follows_the_links_down_and_up_again(way: Way) -> None:
    poll(lambda: way.believed() == [1500, 1500], what="both hosts know the cable")
    with way.narrowed(1300):
        pass
    assert way.believed() == [1500, 1500]


def test_a_route_with_an_mtu_counts_and_the_kernels_cache_does_not(way: Way) -> None:
    other = next(row["address"] for row in way.lab.vxlanu("h1", "vtep", "ls") if row["state"] != "self")
    limited = ["ip", "route", "replace", f"{other}/32", "dev", "eth0", "mtu", "lock", "1350"]
    way.lab.exec("h1", limited)
    poll(lambda: sorted(way.believed()) == [1350, 1500], what="h1 keeps to the route's MTU")
    way.lab.exec("h1", ["ip", "route", "del", f"{other}/32"])
    poll(lambda: way.believed() == [1500, 1500], what="the route is gone and so is its MTU")
