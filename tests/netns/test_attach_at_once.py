"""Fifty attaches at once on two hosts: everyone gets an address of each family, and nobody another's.

    25 containers        25 containers
         h1 ──────────────── h2
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from vxlanu.api.client import Client
from vxlanu.api.schema import Attach, NetworkCreate
from vxlanu.errors import TryAgain
from vxlanu.lab.plan import agent_socket
from vxlanu.lab.topology import Lab, poll

pytestmark = [pytest.mark.netns]

EACH = 25
PATIENCE_S = 120.0  # of the API's client: all wait for the same two processors
TRIES = 20  # a machine under load answers "try again" (75), as it may; it may not give one address to two


@pytest.fixture(scope="module")
def pair(make_module_lab: Callable[..., Lab]) -> Lab:
    lab = make_module_lab(hosts=2, containers=1)
    lab.create_container(*(f"c{host}-n{number}" for host in (1, 2) for number in range(EACH)))
    return lab


def api(lab: Lab, host: int) -> Client:
    return Client(str(lab.path(agent_socket(f"h{host}"))), timeout_s=PATIENCE_S, slow_timeout_s=PATIENCE_S)


def attached(lab: Lab, host: int, name: str) -> tuple[list[str], int]:
    """Its addresses, and how often it was told to try again."""
    for tried in range(TRIES):
        try:
            return api(lab, host).attach(Attach("crowd", name)).value.addresses, tried
        except TryAgain as error:
            told = error
    raise told


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "subnets",
    [["10.77.0.0/24"], ["10.77.0.0/24", "fd77::/119"]],
    ids=["blocks of 64", "two families, a claim for each IPv6 address"],
)
def test_fifty_at_once_get_fifty_addresses(pair: Lab, subnets: list[str]) -> None:
    one = api(pair, 1)
    made = one.network_create(NetworkCreate("crowd", subnets=subnets, internal=True)).value.id
    poll(lambda: [it.id for it in api(pair, 2).networks().value.items] == [made], "h2 to know this network alone", 60)
    begun = time.monotonic()
    with ThreadPoolExecutor(2 * EACH) as threads:
        names = [(host, f"c{host}-n{number}") for number in range(EACH) for host in (1, 2)]
        asked = [threads.submit(attached, pair, host, name) for host, name in names]
        given = [address for it in asked for address in it.result()[0]]
    took, again = time.monotonic() - begun, sum(it.result()[1] for it in asked)
    print(f"{subnets}: {2 * EACH} attaches in {took:.1f} s, {EACH / took:.1f} a second and host, {again} tried again")
    assert len(given) == len(set(given)) == 2 * EACH * len(subnets)
    for host in (1, 2):
        poll(lambda: len(api(pair, host).endpoints().value.items) == 2 * EACH, "all to be known", 60)  # noqa: B023
        poll(lambda: not api(pair, host).verify().value.differences, "the tables to be right", 60)  # noqa: B023
    poll(lambda: not {it.state for it in one.endpoints().value.items} - {"up"}, "all to be up", 60)
    for host, name in names:
        api(pair, host).detach("crowd", name)
    poll(lambda: not one.endpoints().value.items, "all to be gone", 60)
    one.network_prune()
