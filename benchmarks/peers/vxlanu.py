"""vxlanu itself: a network, and a container attached to it on each host of the scene."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.scene import HOSTS, Path, Scene, Witness

TITLE = "vxlanu"
SUBNET = "10.65.0.0/16"


def version() -> str:
    """Of the package, and the commit where it is a clone."""
    from importlib.metadata import version as installed

    return installed("vxlanu")


def bring_up(scene: Scene, stack: ExitStack) -> Path:
    """Between c1-1 and c2-1, which the lab has."""
    lab = scene.lab
    lab.vxlanu("h1", "network", "create", "blue", "--subnet", SUBNET)
    addresses = []
    for host in HOSTS:
        attached = lab.vxlanu(host, "attach", "blue", f"c{host[1]}-1")
        assert isinstance(attached, dict) and isinstance(attached["addresses"], list)
        addresses.append(str(attached["addresses"][0]).split("/")[0])
    witnesses = (Witness("c1-1", "eth0"), Witness("h1", "eth0"), Witness("h2", "eth0"), Witness("c2-1", "eth0"))
    agents = tuple(lab.agent_pids().values())
    return Path("vxlanu", lab, "c1-1", "c2-1", addresses[1], addresses[0], witnesses, processes=agents)
