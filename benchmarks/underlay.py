"""What the cables of a lab can do: veth devices as they are, or as network cards of two kinds.

`offload` is veth as it is; `nic` a card without tunnel offloads, which flatters kernel vxlan, since veth never computes
the inner checksum that a wire needs; `plain` a card without any. In `wire` every byte of a capture is as it would be on
copper. Switched with ethtool on both ends of every cable.
"""

from __future__ import annotations

from collections.abc import Iterable

from vxlanu.lab.plan import UNDERLAY
from vxlanu.lab.topology import Lab

__all__ = ["UNDERLAYS", "join_underlay", "set_underlay"]

_TUNNEL = ("tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation", "tx-udp-segmentation", "tso")
_CHECKSUM = "tx-checksum-ip-generic"
UNDERLAYS: dict[str, dict[str, str]] = {
    "offload": dict.fromkeys((_CHECKSUM, *_TUNNEL), "on") | {"gro": "off"},
    "nic": {_CHECKSUM: "on"} | dict.fromkeys(_TUNNEL, "off") | {"gro": "on"},
    "plain": dict.fromkeys((*_TUNNEL, _CHECKSUM), "off") | {"gro": "on"},
    "wire": dict.fromkeys(("tx", "tx-udp-segmentation", "tso", "gro"), "off"),
}


def set_underlay(lab: Lab, kind: str, hosts: Iterable[str]) -> None:
    """Give both ends of the cables of `hosts` the features of one of UNDERLAYS."""
    words = [word for pair in UNDERLAYS[kind].items() for word in pair]
    for host in hosts:
        for place, device in ((host, "eth0"), (UNDERLAY, host)):
            lab.exec(place, ["ethtool", "-K", device, *words])


def join_underlay(lab: Lab, name: str) -> None:
    """One more host, as the lab makes them, only without an address and without an agent."""
    mtu = lab.plan.mtu
    for command in (
        f"ip netns add {name}",
        f"ip link add {name} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {name}",
        f"ip link set {name} master {UNDERLAY} addrgenmode none up",
        f"ip -n {name} link set lo up",
        f"ip -n {name} link set eth0 up",
    ):
        lab.exec(UNDERLAY, command.split())
