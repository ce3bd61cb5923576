"""Which namespace a user means, and what a child reads in one.

host (own namespace) ── NAME, /path, pid:N, docker:NAME ──► target
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_ns import Namespaces, poll, run
from needs import require

from vxlanu.errors import BadRequest
from vxlanu.netns import Target, resolve
from vxlanu.nsopen import NamespaceHelper, NamespaceMissing, PermissionMissing
from vxlanu.nsopen.wire import AskRoute, ListAddresses, ListLinks, ListRoutes
from vxlanu.runtimes.docker.client import HOST_VARIABLES

pytestmark = pytest.mark.netns

NOBODY = 54321  # a uid that this machine gives to nobody

# What a user without any privilege does: a container of its own (unshare -Urn), and an agent's helper outside of it.
ROOTLESS = """
import asyncio, atexit, json, os, select, subprocess, sys, time
from vxlanu.netns import resolve
from vxlanu.nsopen import NamespaceHelper, TapPlan, PermissionMissing
from vxlanu.nsopen.wire import ListAddresses
assert os.getuid() != 0
capabilities = int(next(line for line in open("/proc/self/status") if line.startswith("CapEff")).split()[1], 16)
assert capabilities == 1 << 2, hex(capabilities)  # CAP_DAC_READ_SEARCH
helper = NamespaceHelper.start()
container = subprocess.Popen(["unshare", "-Urn", "sleep", "600"])
atexit.register(container.kill)
own = os.stat("/proc/self/ns/net").st_ino
while os.stat(f"/proc/{container.pid}/ns/net").st_ino == own:
    time.sleep(0.01)
target = asyncio.run(resolve(f"pid:{container.pid}"))
with target.open() as namespace:
    made = helper.call_sync(TapPlan("00000000aaaa", "02:42:c0:a8:00:07", 1450, ("192.168.0.7/24",)), namespace)
    shown = [item.address for item in helper.call_sync(ListAddresses(), namespace) if item.ifname == "eth0"]
    with open("/proc/1/ns/net") if os.access("/proc/1/ns/net", os.R_OK) else open("/proc/self/ns/net") as foreign:
        try:
            helper.call_sync(TapPlan("00000000bbbb", "02:42:c0:a8:00:08", 1450), foreign.fileno())
            refused = ""
        except PermissionMissing as why:
            refused = why.name
container.kill()
container.wait()
end = select.poll()
end.register(made.fds[0], 0)
deadline = time.monotonic() + 60
while not (ended := end.poll(0)) and time.monotonic() < deadline:
    time.sleep(0.01)
print(json.dumps({"ifname": made.ifname, "shown": shown, "refused": refused, "ended": bool(ended)}))
"""


@pytest.fixture(scope="module")
def helper() -> Iterator[NamespaceHelper]:
    started = NamespaceHelper.start()
    yield started
    started.close()


def resolved(text: str) -> Target:
    return asyncio.run(resolve(text))


def test_every_form_of_a_target_leads_to_the_same_namespace(namespaces: Namespaces) -> None:
    container = namespaces.make("c")
    sleeper = container.start("sleep", "600")
    poll(lambda: Path(f"/proc/{sleeper.pid}/ns/net").stat().st_ino == container.inode, what="nsenter has entered")
    forms = [container.name, str(container.path), f"pid:{sleeper.pid}", f"/proc/{sleeper.pid}/ns/net"]
    found = [resolved(form) for form in forms]
    assert {target.inode for target in found} == {container.inode}
    assert [target.kind for target in found] == ["name", "path", "pid", "path"]
    assert [target.pid for target in found] == [0, 0, sleeper.pid, sleeper.pid]
    assert all(target.alive() for target in found)
    sleeper.kill()
    sleeper.wait()
    assert [target.alive() for target in found] == [True, True, False, False]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", BadRequest),
        ("..", BadRequest),
        ("two words", BadRequest),
        ("lxc:name", NamespaceMissing),  # a colon may stand in a name of ip netns
        ("pid:", BadRequest),
        ("pid:-1", BadRequest),
        ("pid:0", BadRequest),
        ("pid:4194305", NamespaceMissing),  # above the largest pid there can be
        ("docker:--help", BadRequest),
        ("nobody-has-this-name", NamespaceMissing),
        ("/nobody/has/this/path", NamespaceMissing),
        ("/etc/passwd", NamespaceMissing),
        ("/dev/null", NamespaceMissing),
        ("/proc/self/ns/mnt", NamespaceMissing),  # a namespace, but of another kind
        ("/tmp", NamespaceMissing),
    ],
)
def test_what_is_no_network_namespace_is_refused_in_one_line(text: str, error: type[Exception]) -> None:
    with pytest.raises(error) as refused:
        resolved(text)
    assert "\n" not in str(refused.value)
    assert resolved("/proc/self/ns/net").alive()  # positive control


@pytest.mark.parametrize("runtime", ["docker", "podman"])
def test_a_runtime_is_asked_through_its_own_command(
    runtime: str, namespaces: Namespaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program is a stand-in with the answers of the real ones; the real ones are asked in tests/interop."""
    container = namespaces.make("c")
    sleeper = container.start("sleep", "600")
    poll(lambda: Path(f"/proc/{sleeper.pid}/ns/net").stat().st_ino == container.inode, what="nsenter has entered")
    program = tmp_path / runtime
    program.write_text(
        "#!/bin/sh\n"
        '[ "$1 $2 $3 $4 $5" = "inspect --type container --format {{.State.Pid}} {{.Id}} {{.Name}}" ] || exit 2\n'
        f'case "$6" in c0) echo {sleeper.pid} 4f5e /c0;; stopped) echo 0 4f5f stopped;;\n'
        '*) echo "Error: no such container $6" >&2; exit 1;;\n'
        "esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv(HOST_VARIABLES[runtime], f"unix://{tmp_path}/no-daemon-here")
    target = resolved(f"{runtime}:c0")
    assert (target.inode, target.pid, target.kind) == (container.inode, sleeper.pid, runtime)
    assert target.container == "4f5e"
    with pytest.raises(NamespaceMissing, match="not running"):
        resolved(f"{runtime}:stopped")
    with pytest.raises(NamespaceMissing, match="no such container c1"):
        resolved(f"{runtime}:c1")


def test_links_addresses_and_routes_are_those_of_the_target(namespaces: Namespaces, helper: NamespaceHelper) -> None:
    container = namespaces.make("c")
    container.ip("link", "add", "up0", "mtu", "1400", "type", "bridge")
    container.ip("link", "property", "add", "dev", "up0", "altname", "other-name")
    container.ip("addr", "add", "192.0.2.7/24", "dev", "up0")
    container.ip("addr", "add", "2001:db8::7/64", "dev", "up0", "nodad")
    container.ip("link", "set", "up0", "up")
    container.ip("route", "add", "198.51.100.0/24", "via", "192.0.2.1", "src", "192.0.2.7", "metric", "7")
    with container.path.open() as namespace:
        links = {link.name: link for link in helper.call_sync(ListLinks(), namespace.fileno())}
        addresses = helper.call_sync(ListAddresses(), namespace.fileno())
        routes = {route.destination: route for route in helper.call_sync(ListRoutes(), namespace.fileno())}
        way = helper.call_sync(AskRoute("198.51.100.9"), namespace.fileno())
        nowhere = helper.call_sync(AskRoute("203.0.113.1"), namespace.fileno())
    assert set(links) == {"lo", "up0"}
    assert (links["up0"].kind, links["up0"].mtu, links["up0"].up) == ("bridge", 1400, True)
    assert links["up0"].altnames == ("other-name",)
    shown = {(item.ifname, item.address, item.prefix, item.scope) for item in addresses}
    assert {("up0", "192.0.2.7", 24, "global"), ("up0", "2001:db8::7", 64, "global")} <= shown
    found = routes["198.51.100.0/24"]
    assert (found.gateway, found.source, found.metric, found.table) == ("192.0.2.1", "192.0.2.7", 7, 254)
    assert found.ifindex == links["up0"].index
    assert (way.source, way.gateway, way.ifname, way.mtu) == ("192.0.2.7", "192.0.2.1", "up0", 1400)
    assert nowhere is None


def test_without_a_target_it_is_the_agents_own_namespace(helper: NamespaceHelper) -> None:
    def same() -> bool:  # others may make links here, between the two questions too
        shown = {line.split(":")[1].strip().split("@")[0] for line in run("ip", "-o", "link").splitlines()}
        return {link.name for link in helper.call_sync(ListLinks())} == shown

    poll(same, what="the links that iproute2 shows")


def test_a_user_without_privilege_gives_a_tap_to_a_container_of_its_own(tmp_path: Path) -> None:
    """/dev/net/tun is 0666 on distributions; where it is not, a node of that mode is mounted over it, for this test.

    The one capability left is to read any file: the working tree and its Python may be root's alone.
    """
    require("unshare", "setpriv", "mount", "mknod")
    node = tmp_path / "tun"
    run("mknod", "-m", "0666", str(node), "c", "10", "200")
    identity = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
    identity += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
    inner = f'mount --bind {node} /dev/net/tun && exec {" ".join(identity)} {sys.executable} -c "$PROGRAM"'
    said = subprocess.run(
        ["unshare", "-m", "sh", "-c", inner],
        env=os.environ | {"PROGRAM": ROOTLESS},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert '"ifname": "eth0"' in said.stdout
    assert '"192.168.0.7"' in said.stdout
    assert f'"refused": "{PermissionMissing.default_name}"' in said.stdout
    assert '"ended": true' in said.stdout, "born outside: the container's end shows on the descriptor"
