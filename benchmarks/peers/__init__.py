"""The peers: what vxlanu is compared with, each brought up on the same two hosts by its own tools.

A peer is a module of this package with the functions of `Peer`; `PEERS` names them in the order of the tables. A
program that is not installed is a `Missing` peer: named in the results, never left out silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Protocol

from benchmarks.peers import docker, fastd, kernel, nebula, openvpn, ovs, tinc, veth, vxlanu, wireguard_go
from benchmarks.scene import Path, Scene

__all__ = ["PEERS", "Peer"]


class Peer(Protocol):
    """What a module of this package offers."""

    TITLE: str
    """For tables: what it is, in a few words."""

    def version(self) -> str:
        """Of the installed program; raises FileNotFoundError, whose text names what is missing."""

    def bring_up(self, scene: Scene, stack: ExitStack) -> Path:
        """Start it on the scene and give its path; what it started ends with the stack."""


PEERS: Mapping[str, Peer] = {
    "vxlanu": vxlanu,
    "veth": veth,
    "kernel": kernel,
    "docker": docker,
    "ovs": ovs,
    "tinc": tinc,
    "fastd": fastd,
    "openvpn": openvpn,
    "nebula": nebula,
    "wireguard-go": wireguard_go,
}
