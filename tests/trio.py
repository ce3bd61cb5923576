"""Three hosts with a container of each in one network: what tests of breaking and mending ask of them.

    c1-1     c2-1     c3-1        blue
     h1 ───── h2 ───── h3
"""

from __future__ import annotations

from collections.abc import Callable

from streams import answer_of, ready, words

from vxlanu.lab.topology import Lab, poll

THREE = ("c1-1", "c2-1", "c3-1")
HOSTS = ("h1", "h2", "h3")
TRIES = 3  # of a transfer, to be there in the middle of it


def joined(lab: Lab) -> dict[str, str]:
    """Make blue, with THREE in it; the address of each."""
    lab.vxlanu("h1", "network", "create", "blue", "--subnet", "192.168.0.0/24")
    return {name: attach(lab, name) for name in THREE}


def attach(lab: Lab, name: str, *options: str) -> str:
    """Attach to blue; the address."""
    body = lab.vxlanu(f"h{name[1]}", "attach", "blue", name, *options)
    return str(body["addresses"][0]).split("/")[0]


def agree(lab: Lab) -> bool:
    """Whether all agents show the same members alive and the same endpoints, and verify prints nothing."""
    members = [sorted((r["name"], r["state"]) for r in lab.vxlanu(host, "member", "ls")) for host in HOSTS]
    endpoints = [sorted((r["id"], r["state"]) for r in lab.vxlanu(host, "endpoint", "ls")) for host in HOSTS]
    alike = all(it == members[0] for it in members) and all(it == endpoints[0] for it in endpoints)
    return alike and all(state == "alive" for _, state in members[0]) and not differences(lab)


def differences(lab: Lab) -> list[object]:
    """What verify prints, on all hosts."""
    return [it for host in HOSTS for it in lab.vxlanu(host, "verify")["differences"]]


def member_state(lab: Lab, host: str, member: str) -> str:
    return next(str(row["state"]) for row in lab.vxlanu(host, "member", "ls") if row["name"] == member)


def transfer(
    lab: Lab, sender: str, receiver: str, address: str, disturb: Callable[[], None] | None = None
) -> None:
    """A TCP transfer of some seconds that must complete, intact, although `disturb` happens in the middle of it.

    Another one if it was over before we looked.
    """
    for _ in range(TRIES):
        if _disturbed(lab, sender, receiver, address, disturb) or not disturb:
            return
    raise AssertionError("each time the transfer was over before the disturbance")


def _disturbed(
    lab: Lab, sender: str, receiver: str, address: str, disturb: Callable[[], None] | None
) -> bool:
    """One such transfer: whether it was disturbed."""
    before, under_way = came_in(lab, receiver), False
    with (
        ready(lab, receiver, "receive", "tcp", address, 5003, 60) as listening,
        lab.running(sender, words("send", "tcp", address, 5003, 12 << 20, 7, 3 << 20)) as sending,
    ):
        if disturb:
            poll(lambda: came_in(lab, receiver) > before + (1 << 20), "a megabyte to arrive", 60, lab.story)
            if under_way := sending.poll() is None:
                disturb()
        sent = answer_of(sending)
        assert answer_of(listening) == sent
    return under_way


def came_in(lab: Lab, name: str) -> int:
    """Bytes that a container has got so far."""
    counted = lab.exec(name, ["cat", "/proc/net/dev"]).stdout
    return next(int(line.split()[1]) for line in counted.splitlines() if line.strip().startswith("eth0:"))
