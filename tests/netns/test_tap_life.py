"""The life of a TAP, on real namespaces: made outside its container, moved in, found again, ended both ways.

agent's nursery               container
t-<id>  ──── moved ────►  eth0, altname v-<id>  ◄── addresses, up
  ▲                          ▲
  └── fd born here: the      └── fd adopted here after a crash: pins the
      container's end shows      namespace, whose end only the watch sees
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
import uvloop
from lab_ns import Namespace, Namespaces, poll, run

from vxlanu.endpoints import Endpoints, LocalEndpoint
from vxlanu.errors import Conflict
from vxlanu.netns import EndOfLifeWatch, Target, resolve
from vxlanu.nsopen import (
    AddressFailed,
    HelperGone,
    HelperTimeout,
    InterfaceTaken,
    NamespaceHelper,
    NamespaceMissing,
    TapMissing,
    TapPlan,
    TapQueues,
    tun,
)
from vxlanu.nsopen.wire import ListLinks

pytestmark = pytest.mark.netns

T = TypeVar("T")
MAC = "02:42:c0:a8:00:64"
V4, V6 = "192.168.0.100/24", "fd00:64::100/64"
VNET = tun.VNET_HEADER_BYTES
PROMISED_S = 10.0
"""Ten times what is promised for the end of a target; the figure itself belongs to `make accept`."""


@pytest.fixture(scope="module")
def helper() -> Iterator[NamespaceHelper]:
    started = NamespaceHelper.start()
    yield started
    started.close()


def run_async(work: Coroutine[object, object, T], *, on_uvloop: bool = True) -> T:
    """On the agent's loop unless a test wants to see both."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if on_uvloop else None) as runner:
        return runner.run(asyncio.wait_for(work, 60))


@dataclass
class Host:
    """What an agent has of this: endpoints, their watch, and which of them it was told have ended."""

    endpoints: Endpoints
    watch: EndOfLifeWatch
    ended: list[str]

    @classmethod
    def start(cls, helper: NamespaceHelper, *, queues: int = 1) -> Host:
        watch = EndOfLifeWatch(asyncio.get_running_loop())
        ended: list[str] = []
        return cls(Endpoints(helper, watch, ended.append, TapQueues(queues)), watch, ended)

    async def open(self, number: int, target: Target, ifname: str = "") -> LocalEndpoint:
        return await self.endpoints.open(
            endpoint_id(number), target, mac=MAC, mtu=1450, addresses=(V4, V6), ifname=ifname
        )

    async def told_of_end(self, number: int, seconds: float) -> bool:
        deadline = asyncio.get_running_loop().time() + seconds
        while endpoint_id(number) not in self.ended and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        return self.ended == [endpoint_id(number)]

    def crash(self) -> None:
        """What kill -9 does: descriptors close, devices stay."""
        self.endpoints.leave()
        self.watch.close()


def endpoint_id(number: int) -> str:
    return f"{os.getpid() & 0xFFFFFF:06x}{number:06x}" + "0" * 20


def open_descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir() if entry.exists()}


def links_of(namespace: Namespace) -> list[dict[str, object]]:
    return [link for link in json.loads(namespace.ip("-d", "-j", "addr")) if link["ifname"] != "lo"]


def nothing_left_in(*namespaces: Namespace) -> bool:
    """That no interface stays; a child that ends may still hold the last descriptor of one."""
    return poll(lambda: not any(map(links_of, namespaces)), what="no interface but lo", story=namespaces[0].story)


def nursery_links(helper: NamespaceHelper) -> list[str]:
    listed = subprocess.run(
        ["nsenter", f"--net=/proc/{helper.pid}/ns/net", "ip", "-j", "link"], capture_output=True, check=True
    )
    return [link["ifname"] for link in json.loads(listed.stdout) if link["ifname"] != "lo"]


def state_of(pid: int) -> str:
    """The letter of ps(1) for what a process does; empty when it has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def next_frame(fd: int, wanted: Callable[[bytes], bool], seconds: float = 60.0) -> bytes:
    """The first frame, without its vnet header, that `wanted` takes."""
    seen: list[str] = []

    def look() -> bytes:
        while select.select([fd], [], [], 0)[0]:
            frame = os.read(fd, 65536)[VNET:]
            seen.append(frame[:42].hex())
            if wanted(frame):
                return frame
        return b""

    return poll(look, timeout=seconds, what="a frame of that kind on the TAP", story=lambda: "\n".join(seen))


def asks_for(address: bytes) -> Callable[[bytes], bool]:
    """An ARP request for `address`."""
    return lambda frame: frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1" and frame[38:42] == address


@pytest.mark.parametrize("on_uvloop", [False, True], ids=["asyncio", "uvloop"])
def test_a_new_endpoint_has_what_was_asked_for_and_carries_frames(
    namespaces: Namespaces, helper: NamespaceHelper, on_uvloop: bool
) -> None:
    container = namespaces.make("c")

    async def story() -> None:
        host = Host.start(helper)
        made = await host.open(1, await resolve(container.name))
        (link,) = links_of(container)
        assert (made.ifname, made.mac, made.mtu, made.adopted) == ("eth0", MAC, 1450, False)
        assert (link["ifname"], link["address"], link["mtu"]) == ("eth0", MAC, 1450)
        assert link["ifindex"] == made.ifindex
        assert link["altnames"] == ["v-" + endpoint_id(1)[:12]]
        assert link["txqlen"] == 4000, "without TSO"
        assert container.run("cat", "/proc/sys/net/ipv6/conf/eth0/addr_gen_mode").strip() == "0", "eui64"
        assert {"UP", "LOWER_UP"} <= set(link["flags"])
        facts = link["linkinfo"]["info_data"]
        assert (facts["type"], facts["pi"], facts["vnet_hdr"]) == ("tap", False, True)
        assert (facts["multi_queue"], facts["persist"]) == (True, True)
        shown = {f"{item['local']}/{item['prefixlen']}": item for item in link["addr_info"]}
        assert set(shown) == {V4, V6, "fe80::42:c0ff:fea8:64/64"}
        assert not any(item.get("tentative") for item in shown.values()), "addresses are usable at once"
        assert made.fds and not any(os.get_blocking(fd) or os.get_inheritable(fd) for fd in made.fds)
        container.start("ping", "-c", "1", "-W", "1", "192.168.0.7")
        next_frame(made.fds[0], asks_for(bytes([192, 168, 0, 7])))
        made.close_fds()
        await host.endpoints.close(endpoint_id(1))
        host.watch.close()

    run_async(story(), on_uvloop=on_uvloop)
    assert nothing_left_in(container)


def test_the_agent_never_carries_what_only_children_need() -> None:
    program = (
        "import sys; from vxlanu.nsopen import NamespaceHelper, wire\n"
        "h = NamespaceHelper.start(); assert h.call_sync(wire.ListLinks())\n"
        "print(sorted({'pytun', 'pyroute2', 'msgspec'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "['msgspec']"


def test_the_lowest_free_name_is_chosen_and_a_wanted_one_is_kept(
    namespaces: Namespaces, helper: NamespaceHelper
) -> None:
    container = namespaces.make("c")
    container.ip("link", "add", "eth0", "type", "bridge")

    async def story() -> list[str]:
        host = Host.start(helper)
        target = await resolve(str(container.path))
        made = [await host.open(1, target), await host.open(2, target, "lan7"), await host.open(3, target)]
        for endpoint in made:
            endpoint.close_fds()
            await host.endpoints.close(endpoint.endpoint_id)
        host.watch.close()
        return [endpoint.ifname for endpoint in made]

    assert run_async(story()) == ["eth1", "lan7", "eth2"]
    assert [link["ifname"] for link in links_of(container)] == ["eth0"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"ifname": "lan0"}, InterfaceTaken),
        ({"ifname": "no/name"}, AddressFailed),
        ({"mac": "03:00:00:00:00:01"}, AddressFailed),  # a multicast address is nobody's own
        ({"mac": "gibberish"}, AddressFailed),
        ({"mtu": 70000}, AddressFailed),
        ({"addresses": ("192.168.0.1/24", "192.168.0.1/24")}, AddressFailed),
        ({"addresses": ("192.168.0.300/24",)}, AddressFailed),
        ({"onlink": ("10.0.0.1/8",)}, AddressFailed),  # host bits set
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_failed_creation_leaves_nothing(
    namespaces: Namespaces, helper: NamespaceHelper, change: dict[str, object], error: type[Exception]
) -> None:
    container = namespaces.make("c")
    container.ip("link", "add", "lan0", "type", "bridge")
    gc.collect()  # what earlier tests left open would be closed in between
    before, fds_before = links_of(container), open_descriptors()
    good: dict[str, object] = {"tag": endpoint_id(1)[:12], "mac": MAC, "mtu": 1450, "addresses": (V4,)}
    with container.path.open() as namespace:
        with pytest.raises(error) as refused:
            helper.call_sync(TapPlan(**good | change), namespace.fileno())
        assert "\n" not in str(refused.value)
        poll(lambda: links_of(container) == before, what="nothing new", story=container.story)
        poll(lambda: not nursery_links(helper), what="the nursery to be empty")
        made = helper.call_sync(TapPlan(**good), namespace.fileno())  # positive control: the rest of the plan was good
        assert len(links_of(container)) == 2
        assert made.ifname == "eth0"
    for fd in made.fds:
        os.close(fd)
    assert open_descriptors() == fds_before


def test_an_endpoint_is_opened_once(namespaces: Namespaces, helper: NamespaceHelper) -> None:
    container = namespaces.make("c")

    async def story() -> None:
        host = Host.start(helper)
        target = await resolve(container.name)
        first = await host.open(1, target)
        with pytest.raises(Conflict):
            await host.open(1, target)
        elsewhere = Host.start(helper)  # an agent that does not know of it: the device's altname tells
        with pytest.raises(InterfaceTaken, match="there already"):
            await elsewhere.open(1, target)
        assert [link["ifname"] for link in links_of(container)] == ["eth0"]
        first.close_fds()
        await host.endpoints.close(endpoint_id(1))
        again = await elsewhere.open(1, target)
        again.close_fds()
        await elsewhere.endpoints.close(endpoint_id(1))
        host.watch.close()
        elsewhere.watch.close()

    run_async(story())
    assert nothing_left_in(container)


def test_a_target_that_ended_or_was_made_again_is_missing(namespaces: Namespaces, helper: NamespaceHelper) -> None:
    container = namespaces.make("c")

    async def story() -> None:
        host = Host.start(helper)
        target = await resolve(container.name)
        kept = os.open(container.path, os.O_RDONLY)  # so that the kernel cannot give the new one the old inode
        try:
            namespaces.delete(container)
            with pytest.raises(NamespaceMissing, match="there is no"):
                await host.open(1, target)
            run("ip", "netns", "add", container.name)
            with pytest.raises(NamespaceMissing, match="another has its place"):
                await host.open(1, target)
        finally:
            os.close(kept)
        made = await host.open(1, await resolve(container.name))  # positive control: resolved anew it is fine
        made.close_fds()
        await host.endpoints.close(endpoint_id(1))
        host.watch.close()

    try:
        run_async(story())
    finally:
        run("ip", "netns", "del", container.name, check=False)
    assert poll(lambda: not nursery_links(helper), what="the nursery to be empty")


@pytest.mark.parametrize("queues", [1, 2])
def test_after_a_crash_the_device_is_found_again_by_its_altname(
    namespaces: Namespaces, helper: NamespaceHelper, queues: int
) -> None:
    container = namespaces.make("c")

    async def story() -> None:
        target = await resolve(container.name)
        before = Host.start(helper, queues=2)
        made = await before.open(1, target)
        made.close_fds()
        before.crash()
        container.ip("link", "set", "eth0", "down")
        container.ip("link", "set", "eth0", "name", "renamed0")
        container.ip("link", "set", "renamed0", "up")
        poll(lambda: "NO-CARRIER" in links_of(container)[0]["flags"], what="linkwatch tells that nobody has it open")
        after = Host.start(helper, queues=queues)
        found = await after.endpoints.adopt(endpoint_id(1), target)
        assert (found.ifname, found.adopted, len(found.fds)) == ("renamed0", True, queues)
        poll(lambda: "NO-CARRIER" not in links_of(container)[0]["flags"], what="linkwatch tells that it is open")
        container.start("ping", "-c", "3", "-i", "0.2", "-W", "1", "192.168.0.9")
        poll(lambda: [fd for fd in found.fds if select.select([fd], [], [], 0)[0]], what="a frame on some queue")
        found.close_fds()
        await after.endpoints.close(endpoint_id(1))
        with pytest.raises(TapMissing):
            await after.endpoints.adopt(endpoint_id(1), target)
        after.watch.close()

    run_async(story())
    assert nothing_left_in(container), "an adoption that fails makes no device either"


@pytest.mark.parametrize("adopted", [False, True], ids=["created", "adopted"])
@pytest.mark.parametrize("kind", ["name", "pid"])
def test_the_end_of_a_target_is_told_soon_and_frees_it(
    namespaces: Namespaces, helper: NamespaceHelper, kind: str, adopted: bool
) -> None:
    """The witness is a veth pair with one end in the container: it goes when the kernel frees the namespace."""
    outside = namespaces.make("o")
    container = namespaces.make("c") if kind == "name" else None
    sleeper = subprocess.Popen(["unshare", "-n", "sleep", "600"]) if kind == "pid" else None
    own = Path("/proc/self/ns/net").stat().st_ino
    if sleeper:
        poll(lambda: Path(f"/proc/{sleeper.pid}/ns/net").stat().st_ino != own, what="its own namespace")
    text = f"pid:{sleeper.pid}" if sleeper else container.name
    where = str(sleeper.pid) if sleeper else container.name
    outside.ip("link", "add", "witness", "type", "veth", "peer", "name", "in0", "netns", where)

    async def story() -> None:
        target = await resolve(text)
        host = Host.start(helper)
        endpoint = await host.open(1, target)
        if adopted:
            endpoint.close_fds()
            host.crash()
            host = Host.start(helper)
            endpoint = await host.endpoints.adopt(endpoint_id(1), target)
        assert not await host.told_of_end(1, 0.2), "nothing has ended yet"
        if sleeper:
            sleeper.kill()
            sleeper.wait()
        else:
            namespaces.delete(container)
        assert await host.told_of_end(1, PROMISED_S)
        if adopted:
            assert links_of(outside), "the adopted descriptor keeps the namespace alive"
        endpoint.close_fds()
        await host.endpoints.close(endpoint_id(1))
        host.watch.close()

    run_async(story())
    poll(lambda: not links_of(outside), what="the namespace to be freed", story=outside.story)


def test_a_process_target_that_ended_leaves_no_device_behind(namespaces: Namespaces, helper: NamespaceHelper) -> None:
    """The process is gone but somebody else holds its namespace: the device must go by its descriptor alone."""
    container = namespaces.make("c")
    sleeper = container.start("sleep", "600")
    poll(lambda: Path(f"/proc/{sleeper.pid}/ns/net").stat().st_ino == container.inode, what="nsenter has entered")

    async def story() -> None:
        host = Host.start(helper)
        endpoint = await host.open(1, await resolve(f"pid:{sleeper.pid}"))
        assert len(links_of(container)) == 1
        sleeper.kill()
        sleeper.wait()
        assert await host.told_of_end(1, PROMISED_S)
        endpoint.close_fds()
        await host.endpoints.close(endpoint_id(1))
        host.watch.close()

    run_async(story())
    assert nothing_left_in(container)


def test_a_device_that_the_container_deleted_is_closed_like_any_other(
    namespaces: Namespaces, helper: NamespaceHelper
) -> None:
    container = namespaces.make("c")

    async def story() -> None:
        host = Host.start(helper)
        endpoint = await host.open(1, await resolve(container.name))
        container.ip("link", "del", "eth0")
        endpoint.close_fds()
        await host.endpoints.close(endpoint_id(1))
        await host.endpoints.close(endpoint_id(1))  # again, as when watch and fast path both tell of an end
        again = await host.open(1, endpoint.target)
        again.close_fds()
        await host.endpoints.close(endpoint_id(1))
        host.watch.close()
        assert host.ended == []

    run_async(story())
    assert nothing_left_in(container)


@pytest.mark.parametrize("on_uvloop", [False, True], ids=["asyncio", "uvloop"])
def test_a_bind_mount_ends_with_its_name_or_without(
    namespaces: Namespaces, helper: NamespaceHelper, on_uvloop: bool
) -> None:
    """Runtimes bind namespaces where they like: any directory is watched, and only what is gone is told."""
    container = namespaces.make("c")
    with tempfile.TemporaryDirectory() as folder:
        mounts = [f"{folder}/{name}" for name in ("removed", "unmounted", "stays")]
        for mount in mounts:
            run("touch", mount)
            run("mount", "--bind", str(container.path), mount)

        async def story() -> None:
            host = Host.start(helper)
            targets = [await resolve(mount) for mount in mounts]
            for number, target in enumerate(targets):
                host.watch.add(endpoint_id(number), target, host.ended.append)
            run("touch", f"{folder}/unrelated")
            run("mount", "--bind", str(container.path), f"{folder}/unrelated")
            run("umount", f"{folder}/unrelated")
            assert not await host.told_of_end(0, 0.2)
            run("umount", mounts[0])
            run("rm", mounts[0])
            assert await host.told_of_end(0, PROMISED_S)
            host.ended.clear()
            run("umount", mounts[1])
            assert await host.told_of_end(1, PROMISED_S)
            host.ended.clear()
            host.watch.add(endpoint_id(1), targets[1], host.ended.append)
            assert await host.told_of_end(1, PROMISED_S), "what has ended before the watch is told at once"
            host.ended.clear()
            assert not await host.told_of_end(2, 0.2)
            host.watch.close()

        try:
            run_async(story(), on_uvloop=on_uvloop)
        finally:
            for mount in mounts:
                run("umount", mount, check=False)


def test_twenty_at_once(namespaces: Namespaces, helper: NamespaceHelper) -> None:
    containers = [namespaces.make(f"c{number}") for number in range(20)]

    async def story() -> None:
        host = Host.start(helper)
        targets = [await resolve(container.name) for container in containers]
        made = await asyncio.gather(*(host.open(number, target) for number, target in enumerate(targets)))
        for container, endpoint in zip(containers, made, strict=True):
            (link,) = links_of(container)
            assert (link["ifname"], link["altnames"]) == ("eth0", ["v-" + endpoint.endpoint_id[:12]])
            endpoint.close_fds()
        await asyncio.gather(*(host.endpoints.close(endpoint.endpoint_id) for endpoint in made))
        host.watch.close()

    run_async(story())
    assert nothing_left_in(*containers)
    assert poll(lambda: not nursery_links(helper), what="the nursery to be empty")


def test_twenty_at_once_in_one_target_have_twenty_names(namespaces: Namespaces, helper: NamespaceHelper) -> None:
    container = namespaces.make("c")

    async def story() -> set[str]:
        host = Host.start(helper)
        target = await resolve(container.name)

        async def open_one(number: int) -> LocalEndpoint:
            return await host.endpoints.open(endpoint_id(number), target, mac=MAC, mtu=1450, addresses=())

        made = await asyncio.gather(*(open_one(number) for number in range(20)))
        for endpoint in made:
            endpoint.close_fds()
            await host.endpoints.close(endpoint.endpoint_id)
        host.watch.close()
        return {endpoint.ifname for endpoint in made}

    assert run_async(story()) == {f"eth{number}" for number in range(20)}
    assert nothing_left_in(container)


def test_a_caller_that_stops_waiting_leaves_nothing(namespaces: Namespaces, helper: NamespaceHelper) -> None:
    container = namespaces.make("c")

    async def story() -> None:
        with (await resolve(container.name)).open() as namespace:
            # Somewhere in between the child has already answered; one that has not may still have its device.
            for number, timeout in enumerate((0.0, 0.002, 0.004, 0.008, 0.016), 10):
                plan = TapPlan(endpoint_id(number)[:12], MAC, 1450)
                try:
                    made = await helper.create_tap(namespace, plan, timeout=timeout)
                except HelperTimeout:
                    continue
                for fd in made.fds:
                    os.close(fd)
                assert await helper.delete_tap(namespace, plan.tag)
            waiting = asyncio.create_task(helper.create_tap(namespace, TapPlan(endpoint_id(2)[:12], MAC, 1450)))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            with pytest.raises(HelperTimeout):
                await helper.create_tap(namespace, TapPlan(endpoint_id(3)[:12], MAC, 1450), timeout=0.0)

    run_async(story())
    poll(lambda: not links_of(container), what="every half-made device to go", story=container.story)
    assert poll(lambda: not nursery_links(helper), what="the nursery to be empty")


def test_an_answer_that_nobody_takes_is_undone_by_whoever_is_left(
    namespaces: Namespaces, helper: NamespaceHelper
) -> None:
    """Either the child finds the caller gone, or the caller has the child's answer and does not want it any more."""
    container = namespaces.make("c")

    def children_done() -> bool:
        return not Path(f"/proc/{helper.pid}/task/{helper.pid}/children").read_text()

    async def cancel_after_the_answer(namespace: int) -> None:
        waiting = asyncio.create_task(helper.create_tap(namespace, TapPlan(endpoint_id(2)[:12], MAC, 1450)))
        await asyncio.sleep(0)  # the request is out; from here the loop stands still until the child has answered
        poll(lambda: links_of(container) and children_done(), what="the child has made the device and ended")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    with container.path.open() as namespace:
        os.kill(helper.pid, signal.SIGSTOP)  # or its child may have answered before we look
        try:
            poll(lambda: state_of(helper.pid) == "T", what="the helper stands still")
            with pytest.raises(HelperTimeout):
                helper.call_sync(TapPlan(endpoint_id(1)[:12], MAC, 1450), namespace.fileno(), timeout=0.0)
        finally:
            os.kill(helper.pid, signal.SIGCONT)
        helper.call_sync(ListLinks())  # requests are forked in order: the child of the first one has started by now
        poll(children_done, what="the child has ended")
        assert nothing_left_in(container)
        run_async(cancel_after_the_answer(namespace.fileno()))
    assert nothing_left_in(container)


def test_a_helper_that_died_is_an_error_and_not_a_hang(namespaces: Namespaces) -> None:
    own = NamespaceHelper.start()
    assert run_async(own.links())
    os.kill(own.pid, signal.SIGKILL)
    os.waitpid(own.pid, 0)
    with pytest.raises(HelperGone):
        run_async(own.links())
    own.close()


def test_the_helper_dies_with_an_agent_that_is_killed() -> None:
    program = (
        "import time; from vxlanu.nsopen import NamespaceHelper\n"
        "print(NamespaceHelper.start().pid, flush=True); time.sleep(600)"
    )
    agent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert agent.stdout
    pid = int(agent.stdout.readline())
    poll(lambda: Path(f"/proc/{pid}/comm").read_text() == "vxlanu-ns\n", what="the helper has settled in")
    agent.kill()
    agent.wait()
    agent.stdout.close()
    poll(lambda: state_of(pid) in ("", "Z"), what="its end")
