"""An agent that answers from the golden files: the real server and routes, nothing behind them.

Rules of this file
  1. What is tested against it is the client's side; it decides nothing and remembers only what it was asked.
  2. It serves from a thread of its own, so that a test can use the blocking client in-process.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from vxlanu.api import schema as s
from vxlanu.api.server import ApiServer
from vxlanu.errors import VxlanuError

GOLDEN = Path(__file__).parent / "unit" / "golden"
T = TypeVar("T")


def golden(kind: type[T]) -> T:
    """The pinned body of a struct."""
    return msgspec.json.decode((GOLDEN / f"{kind.__name__}.json").read_bytes(), type=kind)


class SampleStream:
    """Greets, says two golden events, and stays silent."""

    def __init__(self) -> None:
        self.ended = False
        self.closed = threading.Event()
        self._left = [s.Event("listening", 1.0, node="h1"), golden(s.Event), golden(s.Event)]

    async def take(self, patience_s: float) -> list[s.Event]:
        if not self._left:
            await asyncio.sleep(0.01)  # a pace, not a wait: the route asks again
        taken, self._left = self._left, []
        return taken

    def close(self) -> None:
        self.closed.set()


class SampleService:
    """`asked` is what came in; `error`, when set, is the answer to everything; `gate` holds `attach` back."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.error: VxlanuError | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.differences = True
        self.reached = True
        self.captured: list[bytes] = []
        self.capture_broken = False
        self.fdb_rows = 1
        self.network_endpoints = 2
        self.reclaimable = True
        self.stream: SampleStream | None = None

    def _note(self, *what: object) -> None:
        self.asked.append(what if len(what) > 1 else what[0])
        if self.error:
            raise self.error

    async def status(self) -> s.Status:
        self._note("status")
        return golden(s.Status)

    async def overview(self) -> s.Overview:
        self._note("overview")
        return golden(s.Overview)

    async def prune_networks(self, wanted: list[str]) -> list[s.Network]:
        self._note("prune_networks", *wanted)
        return [golden(s.Network)]

    async def pools(self, network: str) -> list[s.AddressPool]:
        self._note("pools", network)
        return [golden(s.AddressPool)]

    async def networks(self, wanted: list[str]) -> list[s.Network]:
        self._note("networks", *wanted)
        return [msgspec.structs.replace(golden(s.Network), endpoints=self.network_endpoints)]

    async def create_network(self, wanted: s.NetworkCreate) -> s.Network:
        self._note(wanted)
        return golden(s.Network)

    async def network(self, ref: str) -> s.NetworkDetail:
        self._note("network", ref)
        return golden(s.NetworkDetail)

    async def remove_network(self, ref: str) -> s.Network:
        self._note("remove_network", ref)
        return golden(s.Network)

    async def reclaim(self, wanted: s.Reclaim) -> list[s.Reclaimed]:
        self._note(wanted)
        return [golden(s.Reclaimed)] if self.reclaimable else []

    async def endpoints(self, network: str) -> list[s.Endpoint]:
        self._note("endpoints", network)
        return [golden(s.Endpoint)]

    async def attach(self, wanted: s.Attach) -> s.EndpointDetail:
        self._note(wanted)
        await asyncio.to_thread(self.gate.wait)
        return golden(s.EndpointDetail)

    async def endpoint(self, ref: str) -> s.EndpointDetail:
        self._note("endpoint", ref)
        return golden(s.EndpointDetail)

    async def detach(self, network: str, target: str) -> s.Endpoint:
        self._note("detach", network, target)
        return golden(s.Endpoint)

    async def namespaces(self) -> list[s.Namespace]:
        self._note("namespaces")
        return [golden(s.Namespace)]

    async def members(self) -> list[s.Member]:
        self._note("members")
        other = msgspec.structs.replace(golden(s.Member), name="h2", address="fd89::2", self=False, state="suspect")
        return [golden(s.Member), other]

    async def join(self, wanted: s.Join) -> s.Joined:
        self._note(wanted)
        return golden(s.Joined) if self.reached else s.Joined([], wanted.addresses)

    async def leave(self) -> s.Left:
        self._note("leave")
        return golden(s.Left)

    async def forget(self, ref: str) -> s.Member:
        self._note("forget", ref)
        return golden(s.Member)

    async def links(self, reference: str) -> list[s.Link]:
        self._note("links", reference)
        return [golden(s.Link)]

    async def vteps(self) -> list[s.Vtep]:
        self._note("vteps")
        return [golden(s.Vtep)]

    async def add_vtep(self, wanted: s.VtepAdd) -> s.VtepAdded:
        self._note(wanted)
        return golden(s.VtepAdded)

    async def remove_vtep(self, network: str, address: str) -> s.Vtep:
        self._note("remove_vtep", network, address)
        return golden(s.Vtep)

    async def fdb(self, network: str) -> list[s.FdbEntry]:
        self._note("fdb", network)
        return [golden(s.FdbEntry)] * self.fdb_rows

    async def neighbors(self, network: str) -> list[s.Neighbor]:
        self._note("neighbors", network)
        return [golden(s.Neighbor)]

    async def drops(self) -> list[s.Drop]:
        self._note("drops")
        return [golden(s.Drop)]

    async def stats(self) -> list[s.Counters]:
        self._note("stats")
        return [golden(s.Counters)]

    async def netcheck(self, member: str) -> s.Netcheck:
        self._note("netcheck", member)
        return golden(s.Netcheck)

    async def verify(self) -> s.Verify:
        self._note("verify")
        return golden(s.Verify) if self.differences else s.Verify(42, [])

    async def why(self, target: str, source: str) -> s.Why:
        self._note("why", target, source)
        return golden(s.Why)

    async def dns_query(self, name: str, rtype: str, network: str) -> s.NameAnswer:
        self._note("dns_query", name, rtype, network)
        return golden(s.NameAnswer)

    async def events(self, names: list[str], network: str, endpoint: str) -> SampleStream:
        self._note("events", names, network, endpoint)
        self.stream = SampleStream()
        return self.stream

    async def keys(self, prefix: str) -> tuple[int, list[s.KeyValue]]:
        self._note("keys", prefix)
        one = golden(s.KeyValue)
        return 7, [one] if one.key.startswith(prefix) else []

    async def keys_changed(self, index: int, patience_s: float) -> int:
        self._note("keys_changed", index)
        return index

    async def capture(self, wanted: s.CaptureWanted) -> SampleCapture:
        self._note(wanted)
        return SampleCapture(list(self.captured), self.capture_broken)

    async def stop_capture(self, number: str) -> s.CaptureStopped:
        self._note("stop_capture", number)
        return golden(s.CaptureStopped)


class SampleCapture:
    """`pieces`, one a read, then the end; or, when `broken`, a failure instead of it."""

    number = "7"

    def __init__(self, pieces: list[bytes], broken: bool) -> None:
        self.pieces = pieces
        self.broken = broken

    async def read(self, patience_s: float) -> bytes | None:
        if not self.pieces and self.broken:
            raise RuntimeError("what a test asked for")
        return self.pieces.pop(0) if self.pieces else b""

    def stop(self) -> s.CaptureStopped:
        return golden(s.CaptureStopped)

    def close(self) -> None:
        pass


class SampleAgent:
    """`with SampleAgent(path) as agent:` serves on the socket `path` until the block is left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.service = SampleService()
        self._server = ApiServer(path)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> SampleAgent:
        self._thread.start()
        self._server.open()
        asyncio.run_coroutine_threadsafe(self._server.start(self.service), self._loop).result(60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.service.gate.set()
        asyncio.run_coroutine_threadsafe(self._server.close(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()
