"""No overlay at all: the hosts' own underlay addresses. The ceiling of every other figure."""

from __future__ import annotations

import platform
from contextlib import ExitStack

from benchmarks.scene import HOSTS, Path, Scene, Witness

TITLE = "underlay alone"


def version() -> str:
    """The kernel's."""
    return platform.release()


def bring_up(scene: Scene, stack: ExitStack) -> Path:
    """Between the hosts themselves."""
    back, address = (scene.lab.plan.advertise(host) for host in HOSTS)
    return Path("veth", scene.lab, *HOSTS, address, back, tuple(Witness(host, "eth0") for host in HOSTS), overlay=False)
