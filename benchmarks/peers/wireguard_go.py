"""wireguard-go: WireGuard in userspace, which encrypts always. Keys and ends are set by wg.

60 bytes of its own over IPv4: 1440 fit where VXLAN leaves 1450.
"""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.daemon import program, version_of
from benchmarks.scene import HOSTS, Path, Scene
from benchmarks.tunnels import Tunnel

TITLE = "wireguard-go (encrypts)"
PACKAGE = "wireguard-go"
PORT = 51820


def version() -> str:
    """Of wireguard-go."""
    return version_of("wireguard-go", PACKAGE)


def bring_up(scene: Scene, stack: ExitStack) -> Path:
    """Between the hosts, by a TUN on each."""
    daemon, wg = program("wireguard-go", PACKAGE), program("wg", "wireguard-tools")
    tunnel = Tunnel("wireguard-go", scene, stack, 69, scene.inner_mtu - 10)
    public, private = {}, {}
    for host in HOSTS:
        key = tunnel.run(host, [wg, "genkey"])
        private[host] = tunnel.write(host, "key", key)
        public[host] = tunnel.run(host, [wg, "pubkey"], key).strip()
        # It refuses to start where the kernel has WireGuard unless told so.
        preferred = "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD=1"
        tunnel.start(host, ["env", preferred, "LOG_LEVEL=error", daemon, "--foreground", tunnel.device(host)])
    for host, other in (HOSTS, HOSTS[::-1]):
        tunnel.run(host, [
            wg, "set", tunnel.device(host), "listen-port", str(PORT), "private-key", private[host],
            "peer", public[other], "allowed-ips", f"{tunnel.inner(other)}/32", "endpoint", tunnel.outer(other, PORT),
        ])  # fmt: skip
    tunnel.address_devices()
    return tunnel.path()
