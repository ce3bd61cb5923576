"""What each peer of the benchmarks needs of the machine, by the names of needs.py."""

from __future__ import annotations

from needs import DOCKER_NEEDS

from benchmarks.peers.ovs import PROGRAMS

PEER_NEEDS = {
    "vxlanu": ("native",),
    "veth": (),
    "kernel": ("kernel-vxlan",),
    "docker": DOCKER_NEEDS,
    "ovs": PROGRAMS,
    "tinc": ("tincd",),
    "fastd": ("fastd",),
    "openvpn": ("openvpn",),
    "nebula": ("nebula", "nebula-cert"),
    "wireguard-go": ("wireguard-go", "wg"),
}
