"""What tests of the Docker plugin begin and end with: the article's network on both hosts, and nothing left behind."""

from __future__ import annotations

import json

from docker_hosts import DockerHost
from lab_ns import poll

__all__ = [
    *("C0", "C1", "C2", "SUBNET", "addresses", "declare", "demonet", "in_order", "left_over", "links", "on_docker"),
    *("on_each", "start_again", "tidy"),
]

SUBNET = "192.168.0.0/24"
C0, C1, C2 = "192.168.0.100", "192.168.0.101", "192.168.0.102"
OURS = ("vx", "v-")
"""How interfaces of ours begin in a host's namespace, where Docker takes them from and brings them back to."""

Pair = tuple[DockerHost, DockerHost]


def on_docker(host: DockerHost, name: str, subnet: str, *options: str) -> None:
    """A new network of vxlanu, and what Docker on this host calls by the same name."""
    host.vxlanu("network", "create", name, "--subnet", subnet)
    declare(host, name, subnet, *options)


def on_each(pair: Pair, name: str, subnet: str, *options: str) -> None:
    """A new network of vxlanu, and what Docker on either host calls by the same name."""
    on_docker(pair[0], name, subnet, *options)
    declare(pair[1], name, subnet, *options)


def declare(host: DockerHost, name: str, subnet: str, *options: str) -> None:
    """`docker network create` for a network of vxlanu, as soon as this host has heard of it."""

    def is_there() -> bool:
        return any(subnet in row["subnets"] for row in host.vxlanu("network", "ls"))

    poll(is_there, what=f"{host.name} to hear of {subnet}", story=host.story)
    host.docker("network", "create", "-d", "vxlanu", "--ipam-driver", "vxlanu", "--subnet", subnet, *options, name)


def demonet(pair: Pair, *options: str) -> None:
    """The article's network on both."""
    pair[0].vxlanu("network", "create", "demonet", "--subnet", SUBNET, *options)
    for host in pair:
        declare(host, "demonet", SUBNET)


def start_again(pair: Pair, host: DockerHost) -> None:
    """A host's agent, until both see each other: an address may be the other's to lend."""
    host.start_agent()
    poll(lambda: all(it.sees_both() for it in pair), what="both agents see each other", story=host.story)


def addresses(host: DockerHost) -> set[str]:
    """Of all endpoints of the cluster that are up; Docker tells their names only a moment later."""
    rows = [row for row in host.vxlanu("endpoint", "ls") if row["state"] == "up"]
    return {text.split("/")[0] for row in rows for text in row["addresses"]}


def links(host: DockerHost, container: str) -> dict[str, dict[str, object]]:
    """The interfaces of a container by name."""
    return {link["ifname"]: link for link in json.loads(host.inside(container, "ip", "-j", "addr"))}


def left_over(host: DockerHost) -> list[str]:
    """Interfaces of ours in the host's own namespace, but for the bridge of the way out."""
    shown = json.loads(host.run("ip", "-j", "link"))
    names = [link["ifname"] for link in shown if link.get("linkinfo", {}).get("info_kind") != "bridge"]
    return [name for name in names if name.startswith(OURS) and name != "vxlanu_gw"]


def tidy(pair: Pair, running: set[str]) -> None:
    """Until these addresses, and no others, have an endpoint; with no interface astray and every table right."""

    def story() -> str:
        rows = [host.vxlanu("endpoint", "ls") for host in pair]
        return f"{rows}\n" + "\n".join(f"{left_over(host)}\n{host.story()}" for host in pair)

    def settled() -> bool:
        return all(addresses(host) == running and not left_over(host) for host in pair)

    poll(settled, what=f"only {sorted(running)}", story=story)
    in_order(pair)


def in_order(pair: Pair) -> None:
    """Until every table is right."""

    def differences() -> list[object]:
        return [it for host in pair for it in host.vxlanu("verify")["differences"]]

    def story() -> str:
        return "\n".join([str(differences()), *(host.story() for host in pair)])

    poll(lambda: not differences(), what="every table right", story=story)
