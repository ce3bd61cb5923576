"""fastd with its method `null`: a TAP over UDP without cipher and authentication, as mesh networks use it."""

from __future__ import annotations

import re
from contextlib import ExitStack

from benchmarks.daemon import program, version_of
from benchmarks.scene import HOSTS, Path, Scene
from benchmarks.tunnels import Tunnel

TITLE = "fastd (no cipher)"
PACKAGE = "fastd"
PORT = 10000


def version() -> str:
    """Of fastd."""
    return version_of("fastd", PACKAGE)


def bring_up(scene: Scene, stack: ExitStack) -> Path:
    """Between the hosts, by a TAP on each."""
    fastd = program("fastd", PACKAGE)
    tunnel = Tunnel("fastd", scene, stack, 70, scene.inner_mtu)
    keys = {host: re.findall(r"\b[0-9a-f]{64}\b", tunnel.run(host, [fastd, "--generate-key"])) for host in HOSTS}
    for host, other in (HOSTS, HOSTS[::-1]):
        config = tunnel.write(host, "fastd.conf", "\n".join((
            f'interface "{tunnel.device(host)}";', "mode tap;", f"mtu {tunnel.mtu};", 'method "null";',
            f"bind {tunnel.outer(host, PORT)};", f'secret "{keys[host][0]}";',
            f'peer "{other}" {{ key "{keys[other][1]}"; remote {tunnel.outer(other, PORT)}; }}',
        )))  # fmt: skip
        tunnel.start(host, [fastd, "--config", config])
    tunnel.address_devices()
    return tunnel.path()
