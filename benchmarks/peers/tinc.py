"""tinc 1.0 as an Ethernet switch, without cipher, authentication and compression: the closest to a VXLAN that it can.

Packets go by UDP. Its search for the path MTU is off, since it sends by TCP until that has ended; what it adds is 46
bytes over IPv4, so nothing is fragmented.
"""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.daemon import program, version_of
from benchmarks.scene import HOSTS, Path, Scene
from benchmarks.tunnels import Tunnel

TITLE = "tinc (switch, no cipher)"
PACKAGE = "tinc"


def version() -> str:
    """Of tincd."""
    return version_of("tincd", PACKAGE)


def bring_up(scene: Scene, stack: ExitStack) -> Path:
    """Between the hosts, by a TAP on each."""
    tincd = program("tincd", PACKAGE)
    tunnel = Tunnel("tinc", scene, stack, 67, scene.inner_mtu)
    public = {}
    for host in HOSTS:
        called = ["ConnectTo = h1"] * (host != "h1")
        tunnel.write(host, "tinc.conf", "\n".join((
            f"Name = {host}", *called, f"Interface = {tunnel.device(host)}", "Device = /dev/net/tun",
            "Mode = switch", f"AddressFamily = {scene.lab.plan.underlay}",
        )))  # fmt: skip
        tunnel.write(host, f"hosts/{host}", "")
        tunnel.run(host, [tincd, "-c", str(tunnel.folders[host]), "-K", "2048"])
        public[host] = scene.lab.path(tunnel.folders[host] / "hosts" / host).read_text()
    for host in HOSTS:
        for end in HOSTS:
            tunnel.write(host, f"hosts/{end}", "\n".join((
                f"Address = {scene.lab.plan.advertise(end)}", "Cipher = none", "Digest = none", "Compression = 0",
                "PMTUDiscovery = no", public[end],
            )))  # fmt: skip
        folder = str(tunnel.folders[host])
        tunnel.start(host, [tincd, "-c", folder, "-D", "-d1", f"--pidfile={folder}/pid"])
    tunnel.address_devices()
    return tunnel.path()
