"""OpenVPN from one host to the other, without keys: no cipher, no authentication, a TAP over UDP."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.daemon import program, version_of
from benchmarks.scene import HOSTS, Path, Scene
from benchmarks.tunnels import Tunnel

TITLE = "OpenVPN (no cipher)"
PACKAGE = "openvpn"


def version() -> str:
    """Of openvpn."""
    return version_of("openvpn", PACKAGE)


def bring_up(scene: Scene, stack: ExitStack) -> Path:
    """Between the hosts, by a TAP on each."""
    openvpn = program("openvpn", PACKAGE)
    tunnel = Tunnel("openvpn", scene, stack, 73, scene.inner_mtu)
    family = "udp6" if scene.lab.plan.underlay == "ipv6" else "udp4"
    for host, other in (HOSTS, HOSTS[::-1]):
        ends = ["--local", scene.lab.plan.advertise(host), "--remote", scene.lab.plan.advertise(other)]
        tunnel.start(host, [
            openvpn, "--dev", tunnel.device(host), "--dev-type", "tap", "--proto", family, *ends,
            "--cipher", "none", "--auth", "none", "--tun-mtu", str(tunnel.mtu), "--mssfix", "0",
        ])  # fmt: skip
    tunnel.address_devices()
    return tunnel.path()
