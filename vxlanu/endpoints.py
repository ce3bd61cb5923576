"""The TAPs of this host: attach, adopt, detach, and nothing left behind.

Rules of this file
  1. Life of the device only: no records, no forwarding, no names. The agent calls `open` before it writes a record and
     `close` after the fast path has let go of the port.
  2. A step that fails undoes the steps before it; what is raised is the first failure.
  3. A namespace is never pinned: no descriptor of it is kept, and a TAP that ended is closed without a question.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from vxlanu.errors import Conflict, VxlanuError
from vxlanu.netns import EndOfLifeWatch, Target, own
from vxlanu.nsopen import KernelRefused, Link, NamespaceHelper, OpenTap, TapMissing, TapPlan, TapQueues, tun
from vxlanu.nsopen.wire import alternative_name, moved_name

TAG_DIGITS = 12  # of the endpoint's id, in the names of its device: v-<12 digits> is as long as a name may be, less one


def waiting_name(endpoint_id: str) -> str:
    """What a bare TAP is called until a runtime has moved it."""
    return moved_name(endpoint_id[:TAG_DIGITS])


class QueuesStale(Exception):
    """Descriptors that an earlier run kept are not, or no longer, what this one would have opened."""


@dataclass(frozen=True, slots=True)
class Queues:
    """Descriptors of one TAP; with `write_queue` the last is a detached queue, only to be written to."""

    fds: tuple[int, ...]
    write_queue: bool

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class LocalEndpoint:
    """An endpoint whose TAP is open here.

    `fds`, one per queue (nsopen.TapQueues), belong to whoever takes this value (the fast path, whose reaper closes
    them). `Endpoints` keeps a duplicate of the first, by which `close` takes the device away even if its namespace
    cannot be reached.
    """

    endpoint_id: str
    target: Target
    ifname: str
    ifindex: int
    mac: str
    mtu: int
    adopted: bool
    fds: tuple[int, ...]
    write_queue: bool

    @property
    def queues(self) -> Queues:
        """The descriptors by themselves."""
        return Queues(self.fds, self.write_queue)

    def close_fds(self) -> None:
        """For a caller that could not pass them on."""
        self.queues.close()


class Endpoints:
    """All local endpoints, by id (hex; the first 12 digits make the device's names)."""

    def __init__(
        self, helper: NamespaceHelper, watch: EndOfLifeWatch, vanished: Callable[[str], None], queues: TapQueues
    ) -> None:
        """`vanished(endpoint_id)` is called once on the loop when a target ends; the agent then calls `close`."""
        self._helper = helper
        self._watch = watch
        self._vanished = vanished
        self._queues = queues
        self._open: dict[str, tuple[Target, int]] = {}  # target and our duplicate of queue 0
        self._busy: set[str] = set()

    async def open(
        self,
        endpoint_id: str,
        target: Target,
        *,
        mac: str,
        mtu: int,
        addresses: tuple[str, ...],
        ifname: str = "",
        onlink: tuple[str, ...] = (),
        bare: bool = False,
    ) -> LocalEndpoint:
        """Make the TAP in `target`, addressed and up. Empty `ifname`: the lowest free ethN.

        `bare`: down and without addresses, for a runtime that moves it; `moved` tells where to.
        """
        plan = TapPlan(endpoint_id[:TAG_DIGITS], mac, mtu, addresses, ifname, onlink, self._queues, bare)
        with self._reserved(endpoint_id), target.open() as namespace:
            made = await self._helper.create_tap(namespace, plan)
        return self._keep(endpoint_id, target, made, adopted=False)

    async def adopt(self, endpoint_id: str, target: Target) -> LocalEndpoint:
        """Open the TAP that an earlier agent left. NamespaceMissing or TapMissing mean: it ended while we were away."""
        with self._reserved(endpoint_id), target.open() as namespace:
            found = await self._helper.adopt_tap(namespace, endpoint_id[:TAG_DIGITS], self._queues)
        return self._keep(endpoint_id, target, found, adopted=True)

    async def take(self, endpoint_id: str, target: Target, kept: Queues) -> LocalEndpoint:
        """Go on with the queues that an earlier agent kept; they are closed if that fails.

        NamespaceMissing or TapMissing mean: it ended while we were away. QueuesStale: open it again (`adopt`).
        """
        try:
            with self._reserved(endpoint_id), target.open() as namespace:
                links = await self._helper.links(namespace)
                altname = alternative_name(endpoint_id[:TAG_DIGITS])
                link = next((link for link in links if altname in link.altnames), None)
                if link is None:
                    raise TapMissing(f"take {altname}", "the target has no such TAP")
                self._prove(kept, link, os.fstat(namespace).st_ino)
        except BaseException:
            await asyncio.to_thread(kept.close)
            raise
        found = OpenTap(link.name, link.index, link.mac, link.mtu, target.inode, kept.fds, kept.write_queue)
        return self._keep(endpoint_id, target, found, adopted=True)

    def _prove(self, kept: Queues, link: Link, namespace: int) -> None:
        """Every descriptor must be a queue of that very link, opened the way that we open them now."""
        wanted = self._queues
        several = bool(link.kind) and self._flags(kept.fds[0]) & tun.IFF_MULTI_QUEUE
        count, write_queue = (wanted.count, wanted.write_queue) if several else (1, False)
        if (len(kept.fds) - kept.write_queue, kept.write_queue) != (count, write_queue):
            raise QueuesStale(f"{len(kept.fds)} descriptors, and other numbers of queues now")
        for number, fd in enumerate(kept.fds):
            flags = self._flags(fd)
            detached = write_queue and number == len(kept.fds) - 1
            if bool(flags & tun.IFF_VNET_HDR) != wanted.vnet_hdr or bool(flags & tun.IFF_DETACH_QUEUE) != detached:
                raise QueuesStale("opened with other flags")
            try:
                if (tun.interface_of(fd)[0], tun.namespace_of(fd)) != (link.name, namespace):
                    raise QueuesStale("a queue of another device")
                tun.prepare_queue(fd, wanted.vnet_hdr, wanted.offloads)
            except OSError as why:
                raise QueuesStale(why.strerror or str(why)) from why

    @staticmethod
    def _flags(fd: int) -> int:
        try:
            return tun.interface_of(fd)[1]
        except OSError as why:
            raise QueuesStale(f"no TAP: {why.strerror}") from why

    def place(self, endpoint_id: str) -> tuple[str, int]:
        """What the device is called now, and the inode of the namespace it is in: asked of our descriptor alone.

        NotFound: it is not open here, or has gone.
        """
        kept = self._open.get(endpoint_id)
        try:
            if kept is not None:
                return tun.interface_of(kept[1])[0], tun.namespace_of(kept[1])
        except OSError as why:
            raise TapMissing(f"find {alternative_name(endpoint_id[:TAG_DIGITS])}", why.strerror or str(why)) from why
        raise TapMissing(f"find {alternative_name(endpoint_id[:TAG_DIGITS])}", "not open here")

    async def moved(self, local: LocalEndpoint, target: Target) -> LocalEndpoint:
        """The endpoint in the namespace that a runtime has moved its TAP to, which is watched from now on.

        NotFound: the device is not there.
        """
        with target.open() as namespace:
            links = await self._helper.links(namespace)
        altname = alternative_name(local.endpoint_id[:TAG_DIGITS])
        link = next((link for link in links if altname in link.altnames), None)
        kept = self._open.get(local.endpoint_id)
        if link is None or kept is None:
            raise TapMissing(f"find {altname}", "the target has no such TAP")
        self._open[local.endpoint_id] = (target, kept[1])
        self._watch.add(local.endpoint_id, target, self._vanished)
        return replace(local, target=target, ifname=link.name, ifindex=link.index)

    def returned(self, endpoint_id: str) -> None:
        """The runtime takes its TAP back to our own namespace: that of its container may end now."""
        self._watch.discard(endpoint_id)
        kept = self._open.get(endpoint_id)
        if kept is not None:
            self._open[endpoint_id] = (own(), kept[1])

    async def sweep(self, endpoint_id: str) -> bool:
        """Delete a TAP of an earlier run that waits in our own namespace for a runtime; False if there is none."""
        with own().open() as namespace:
            return await self._helper.delete_tap(namespace, endpoint_id[:TAG_DIGITS])

    async def close(self, endpoint_id: str) -> None:
        """Delete the device, end the watch. Idempotent; never fails because the target is gone."""
        self._watch.discard(endpoint_id)
        kept = self._open.pop(endpoint_id, None)
        if kept is None:
            return
        target, anchor = kept
        with contextlib.suppress(OSError):
            tun.set_persistent(anchor, False)
        # Off the loop: the last close of a TAP waits for the kernel to unregister it, some 10 ms.
        await asyncio.to_thread(os.close, anchor)
        # By now the device is going, unless somebody still has a queue open; who returns from here finds it gone.
        with contextlib.suppress(VxlanuError), target.open() as namespace:
            await self._helper.delete_tap(namespace, endpoint_id[:TAG_DIGITS])

    def leave(self) -> None:
        """Let go of everything and leave the devices as they are: the agent stops, the containers go on."""
        for endpoint_id, (_, anchor) in self._open.items():
            self._watch.discard(endpoint_id)
            os.close(anchor)
        self._open.clear()

    @contextlib.contextmanager
    def _reserved(self, endpoint_id: str) -> Iterator[None]:
        """One at a time per endpoint: a second `open` must not undo the device of the first."""
        if endpoint_id in self._open or endpoint_id in self._busy:
            raise Conflict(f"attach {endpoint_id[:TAG_DIGITS]}", "this endpoint is open here", name="already_attached")
        self._busy.add(endpoint_id)
        try:
            yield
        finally:
            self._busy.discard(endpoint_id)

    def _keep(self, endpoint_id: str, target: Target, tap: OpenTap, *, adopted: bool) -> LocalEndpoint:
        try:
            self._open[endpoint_id] = (target, os.dup(tap.fds[0]))
        except OSError as why:  # out of descriptors
            if not adopted:
                tun.set_persistent(tap.fds[0], False)
            for fd in tap.fds:
                os.close(fd)
            raise KernelRefused("keep the TAP open", why.strerror or str(why)) from why
        if target.kind != "own":
            self._watch.add(endpoint_id, target, self._vanished)
        return LocalEndpoint(
            endpoint_id, target, tap.ifname, tap.ifindex, tap.mac, tap.mtu, adopted, tap.fds, tap.write_queue
        )
