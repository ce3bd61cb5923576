"""The agent's side of the helper.

Rules of this file
  1. Nothing blocks: a request is one send on a socket with room for it, an answer arrives by `add_reader`.
  2. A caller that stops waiting closes its answer socket. A child that finds it closed undoes its work; a child that
     had answered before is undone by the caller (`delete_tap`), so between them nothing is left behind.
  3. Descriptors that arrive belong to the value that is returned, and to nobody when an error is raised.
"""

from __future__ import annotations

from vxlanu.nsopen.wire import InterfaceAddress, Link, OpenTap, PortHolder, Request, Route, RouteTo, TapPlan

TIMEOUT_S = 5.0  # a request takes some 10 ms; a loaded host with thousands of links takes a hundred times that


class NamespaceHelper:
    """A running helper process and the way to ask it things. `target` is always a namespace descriptor, or None for
    the agent's own namespace; it is only borrowed."""

    @classmethod
    def start(cls) -> NamespaceHelper:
        """Fork the helper. Call it first of all: before threads, event loop and heavy imports."""
        raise NotImplementedError

    def close(self) -> None:
        """End the helper and wait for it; work in flight ends with HelperGone."""

    async def create_tap(self, target: int, plan: TapPlan, *, timeout: float = TIMEOUT_S) -> OpenTap:
        """A new TAP in `target`. Errors: InterfaceTaken, AddressFailed, TunMissing, PermissionMissing."""
        raise NotImplementedError

    async def adopt_tap(self, target: int, tag: str, queues: int = 1, *, timeout: float = TIMEOUT_S) -> OpenTap:
        """The TAP of endpoint `tag`, opened again. Such descriptors pin the namespace. Errors: TapMissing, TapBusy."""
        raise NotImplementedError

    async def delete_tap(self, target: int, tag: str, *, timeout: float = TIMEOUT_S) -> bool:
        """Delete it; False if there was none."""
        raise NotImplementedError

    async def links(self, target: int | None = None) -> list[Link]:
        raise NotImplementedError

    async def addresses(self, target: int | None = None) -> list[InterfaceAddress]:
        raise NotImplementedError

    async def routes(self, target: int | None = None) -> list[Route]:
        raise NotImplementedError

    async def route_to(self, address: str, target: int | None = None) -> RouteTo | None:
        """None when there is no route."""
        raise NotImplementedError

    async def udp_port_holder(self, port: int) -> PortHolder | None:
        """Who holds UDP `port` in the agent's own namespace; None if it is free."""
        raise NotImplementedError

    def call_sync(self, request: Request, target: int | None = None, *, timeout: float = TIMEOUT_S) -> object:
        """The same without a loop, for tests and for the start of the agent; answers OpenTap, bool, list, ..."""
        raise NotImplementedError
