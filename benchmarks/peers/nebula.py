"""nebula: its own certificates, AES-GCM as it comes; it encrypts always.

16 bytes of header and as many of tag behind IP and UDP: 1440 bytes fit over IPv4, where VXLAN leaves 1450.
"""

from __future__ import annotations

import json
from contextlib import ExitStack

from benchmarks.daemon import program, version_of
from benchmarks.scene import HOSTS, Path, Scene
from benchmarks.tunnels import Tunnel

TITLE = "nebula (encrypts)"
PACKAGE = "nebula"
PORT = 4242


def version() -> str:
    """Of nebula."""
    return version_of("nebula", PACKAGE, "-version")


def bring_up(scene: Scene, stack: ExitStack) -> Path:
    """Between the hosts, by a TUN on each."""
    nebula = program("nebula", PACKAGE)
    tunnel = Tunnel("nebula", scene, stack, 68, scene.inner_mtu - 10)
    _certify(tunnel)
    for host, other in (HOSTS, HOSTS[::-1]):
        config = tunnel.write(host, "config.yml", json.dumps(_settings(tunnel, host, other)))  # JSON is YAML
        tunnel.start(host, [nebula, "-config", config])
    return tunnel.path()


def _certify(tunnel: Tunnel) -> None:
    """An authority for this one network, and a certificate for each host, in its folder."""
    cert = program("nebula-cert", PACKAGE)
    authority = tunnel.folders["h1"]
    ca = [f"{authority}/ca.crt", f"{authority}/ca.key"]
    tunnel.run("h1", [cert, "ca", "-name", "benchmark", "-out-crt", ca[0], "-out-key", ca[1]])
    for host in HOSTS:
        mine = str(tunnel.folders[host])
        tunnel.run(host, [
            cert, "sign", "-ca-crt", ca[0], "-ca-key", ca[1], "-name", host, "-ip", f"{tunnel.inner(host)}/24",
            "-out-crt", f"{mine}/host.crt", "-out-key", f"{mine}/host.key",
        ])  # fmt: skip


def _settings(tunnel: Tunnel, host: str, other: str) -> dict[str, object]:
    anything = [{"port": "any", "proto": "any", "host": "any"}]
    mine = tunnel.folders[host]
    return {
        "pki": {"ca": f"{tunnel.folders['h1']}/ca.crt", "cert": f"{mine}/host.crt", "key": f"{mine}/host.key"},
        "static_host_map": {tunnel.inner(other): [tunnel.outer(other, PORT)]},
        "lighthouse": {"am_lighthouse": False, "hosts": []},
        "listen": {"host": "::" if tunnel.scene.lab.plan.underlay == "ipv6" else "0.0.0.0", "port": PORT},
        "tun": {"dev": tunnel.device(host), "mtu": tunnel.mtu},
        "logging": {"level": "warning"},
        "firewall": {"outbound": anything, "inbound": anything},
    }
