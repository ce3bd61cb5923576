"""`ipam reclaim` on real hosts: what a dead host held can be had again, and its return does no harm.

c1-1     c2-1     c3-1        tiny: 192.168.9.0/29, five addresses, each a block of its own
 h1 ───── h2 ───── h3
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
from asking import client as api

from vxlanu.api.schema import Reclaim, Reclaimed
from vxlanu.errors import Conflict, NotFound, TryAgain, VxlanuError
from vxlanu.lab.plan import RUN
from vxlanu.lab.topology import Lab, poll

pytestmark = [pytest.mark.netns]

NET, WANTED = "tiny", "192.168.9.4"


@pytest.fixture(scope="module")
def trio(make_module_lab: Callable[..., Lab]) -> Lab:
    """h3 has an address, and its agent is killed."""
    lab = make_module_lab(hosts=3, containers=1)
    lab.vxlanu("h1", "network", "create", NET, "--subnet", "192.168.9.0/29", "--internal")
    lab.vxlanu("h3", "attach", NET, "c3-1", "--ip", WANTED)
    return lab


def state(lab: Lab, host: str) -> str:
    return next((it.state for it in api(lab, "h1").members().value.items if it.name == host), "")


def dead(lab: Lab, *hosts: str) -> None:
    for host in hosts:
        poll(lambda: state(lab, host) == "dead", f"{host} to be dead", 120, lab.story)  # noqa: B023


def taken(lab: Lab, *members: str, dry_run: bool = False) -> list[Reclaimed]:
    return api(lab, "h1").reclaim(Reclaim(list(members), dry_run)).value.items


def refusal(lab: Lab, *members: str) -> VxlanuError:
    with pytest.raises(VxlanuError) as caught:
        taken(lab, *members)
    return caught.value


def holders(lab: Lab, host: str) -> dict[str, str]:
    return {it.prefix: it.holder for pool in api(lab, host).pools(NET).value.items for it in pool.blocks}


def test_who_answers_is_refused_and_without_a_name_nothing_is_taken(trio: Lab) -> None:
    error = refusal(trio, "h3")
    assert isinstance(error, Conflict) and error.name == "member_alive" and "h3 is alive" in error.why
    assert isinstance(refusal(trio, "h1"), Conflict)
    assert isinstance(refusal(trio, "nobody"), NotFound)
    assert taken(trio) == []
    assert holders(trio, "h1") == {f"{WANTED}/32": "h3"}


def test_a_minority_is_refused(trio: Lab) -> None:
    for host in ("h2", "h3"):
        trio.kill_agent(host)
    dead(trio, "h2", "h3")
    error = refusal(trio, "h3")
    assert isinstance(error, TryAgain) and "1 of the 2 members" in error.why and "h2" in error.hint
    trio.start_agent("h2")
    poll(lambda: state(trio, "h2") == "alive", "h2 to be back", 60, trio.story)


def test_what_a_dead_host_held_is_shown_and_taken_back_by_name_alone(trio: Lab) -> None:
    asked = trio.exec("h1", ["vxlanu", "attach", NET, "c1-1", "--ip", WANTED], check=False)
    assert asked.returncode == 75 and "h3" in asked.stderr
    shown = trio.exec("h1", ["vxlanu", "ipam", "show", NET]).stdout
    assert "h3 is dead; if it never comes back: vxlanu ipam reclaim h3" in shown
    assert taken(trio) == [], "dead is not gone"
    (would,) = taken(trio, "h3", dry_run=True)
    assert (would.prefix, would.state, would.holder_state, would.used) == (f"{WANTED}/32", "held", "dead", 1)
    assert holders(trio, "h1") == {f"{WANTED}/32": "h3"}, "a dry run changes nothing"
    said = trio.exec("h1", ["vxlanu", "ipam", "reclaim", "h3", "--yes"]).stdout
    assert said == f"reclaimed {WANTED}/32 of {NET}: held by h3, which is dead; 1 in use there\n"
    trio.vxlanu("h1", "attach", NET, "c1-1", "--ip", WANTED)
    assert holders(trio, "h1") == {f"{WANTED}/32": "h1"}
    assert isinstance(refusal(trio, "h3"), NotFound), "it is taken back once"


def test_a_host_that_comes_back_neither_has_the_address_nor_gives_it_again(trio: Lab) -> None:
    trio.start_agent("h3")
    poll(lambda: state(trio, "h3") == "alive", "h3 to be back", 60, trio.story)
    for host in ("h1", "h2", "h3"):
        poll(lambda: holders(trio, host) == {f"{WANTED}/32": "h1"}, f"{host} to agree", 60, trio.story)  # noqa: B023
    poll(lambda: lost(trio) == {"c3-1": True, "c1-1": False}, "h3's container to be the loser", 60, trio.story)
    trio.create_container("c3-9")
    body = trio.vxlanu("h3", "attach", NET, "c3-9")
    assert body["addresses"] != [f"{WANTED}/29"]
    for host in ("h1", "h3"):
        poll(lambda: not api(trio, host).verify().value.differences, f"{host}'s tables", 60, trio.story)  # noqa: B023


def lost(lab: Lab) -> dict[str, bool]:
    """Endpoint to whether another one has its address."""
    return {it.name: "conflict" in it.state for it in api(lab, "h1").endpoints(NET).value.items}


def test_what_a_host_held_before_it_was_made_anew_goes_without_a_name(trio: Lab) -> None:
    before = {it.id for it in api(trio, "h1").members().value.items}
    trio.kill_agent("h3")
    shutil.rmtree(trio.path(RUN / "h3" / "state"))
    trio.start_agent("h3", wait=False)
    poll(
        lambda: any(it.name == "h3" and it.id not in before for it in api(trio, "h1").members().value.items),
        "h1 to meet the new h3",
        120,
        trio.story,
    )
    poll(lambda: state(trio, "h3") == "alive" and len(taken(trio, dry_run=True)) == 1, "the old one to be gone", 60)
    (row,) = taken(trio)
    assert (row.state, row.holder_state) == ("held", "gone") and row.holder_id in before
    assert set(holders(trio, "h1").values()) == {"h1"}
    assert taken(trio) == []
