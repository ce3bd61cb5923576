"""Told to stop, the agent ends: whatever its tasks, its requests and its threads do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast
from unittest.mock import Mock

from vxlanu.api.routes import Service
from vxlanu.api.server import ApiServer

PATIENCE_S = 30


def test_a_request_that_the_stop_cuts_short_is_undone_before_anything_is_closed(tmp_path: Path) -> None:
    told: list[str] = []
    begun = asyncio.Event()

    async def status() -> None:
        """As an attach: steps that are undone one by one, each of which takes its time."""
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            for step in ("TAP", "row"):
                await asyncio.sleep(0.05)
                told.append(f"{step} undone")

    async def scene() -> None:
        server = ApiServer(tmp_path / "sock")
        server.open()
        await server.start(cast(Service, Mock(status=status)))
        _, writer = await asyncio.open_unix_connection(str(tmp_path / "sock"))
        writer.write(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.wait_for(begun.wait(), PATIENCE_S)
        await asyncio.wait_for(server.close(), PATIENCE_S)
        told.append("closed")
        writer.close()

    asyncio.run(scene())
    assert told == ["TAP undone", "row undone", "closed"]
