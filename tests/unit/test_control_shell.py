"""The shell's promise: what depends on a durable row waits for the journal, whatever the journal does. No sockets."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from vxlanu.control import shell as shell_module
from vxlanu.control.core.config import LOCAL, Config
from vxlanu.control.core.core import Core
from vxlanu.control.core.effects import Effect, Erase, Persist, Published
from vxlanu.control.core.records import Endpoint, EndpointId, Kind, Network, NetworkId, NodeId, Record
from vxlanu.control.net import ControlPlane
from vxlanu.control.shell import Shell

ENDPOINT = Endpoint(id=b"e" * 16, network=b"n" * 16, name="c0", mac="02:42:0a:00:00:02", addresses=("10.0.0.2/24",))


class Journal:
    """Stands still until told, and fails as often as told."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.failures = 0
        self.tables: list[str] = []

    async def commit(self, changes: Sequence[Persist | Erase], durable: bool) -> None:
        """One commit."""
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise OSError(28, "No space left on device")
        self.tables += [change.table for change in changes]


async def until(condition: object) -> None:
    """Let the loop run until it holds."""
    assert callable(condition)
    end = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0)


async def scene(failures: int) -> None:
    """Write an endpoint and publish it with a journal that stands still, then fails, then works."""
    journal, told = Journal(), list[Effect]()
    config = Config(node=NodeId(b"a" * 16), name="h1", control_host="10.0.0.1", profile=LOCAL)
    core = Core(config, [], random.Random(1), time.monotonic())
    shell = Shell(core, journal, "10.0.0.1", 7946, 1.0, told.append)
    now = time.monotonic()
    record = core.put(Kind.ENDPOINT, ENDPOINT.id, ENDPOINT, now)
    core.publish(1, [record], None, now + 1.0, now)
    shell.pump()
    for _ in range(50):
        await asyncio.sleep(0)
    assert not any(isinstance(effect, Published) for effect in told)  # the row is not on the disk yet
    journal.failures = failures
    journal.gate.set()
    await until(lambda: any(isinstance(effect, Published) for effect in told))
    assert journal.failures == 0
    assert journal.tables[0] == "meta" and "own" in journal.tables  # the epoch before everything
    await shell.stop()


def test_nothing_is_told_before_its_row_is_on_the_disk() -> None:
    asyncio.run(scene(0))


def test_a_full_disk_holds_back_what_depends_on_it_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_module, "_JOURNAL_RETRY_SECONDS", 0.01)
    asyncio.run(scene(3))


def test_who_writes_an_endpoint_waits_for_other_hosts_as_long_as_the_profile_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []

    async def scene() -> None:
        journal = Journal()
        journal.gate.set()
        profile = replace(LOCAL, confirm=7.0)
        plane = ControlPlane(Config(node=NodeId(b"a" * 16), name="h1", control_host="10.0.0.1", profile=profile),
                             [], journal)  # fmt: skip
        publish = plane.core.publish

        def watched(number: int, records: list[Record], network: NetworkId | None, end: float, now: float) -> None:
            asked.append(round(end - now, 3))
            publish(number, records, network, end, now)

        monkeypatch.setattr(plane.core, "publish", watched)
        await plane.put_endpoint(ENDPOINT)
        await plane.delete_endpoint(EndpointId(ENDPOINT.id))
        await plane.create_network(Network(id=b"m" * 16, name="demo", vni=256, subnets=("10.1.0.0/24",)))
        await plane.stop()

    asyncio.run(scene())
    assert asked == [7.0, 7.0, 1.0], "a network is another matter"


async def stop_on_a_full_disk(monkeypatch: pytest.MonkeyPatch, *, durable: bool) -> list[Effect]:
    """Stop while a commit fails, as it does from then on; what was told of it."""
    monkeypatch.setattr(shell_module, "_JOURNAL_RETRY_SECONDS", 0.01)
    journal, told = Journal(), list[Effect]()
    config = Config(node=NodeId(b"a" * 16), name="h1", control_host="10.0.0.1", profile=LOCAL)
    core = Core(config, [], random.Random(1), time.monotonic())
    shell = Shell(core, journal, "10.0.0.1", 7946, 1.0, told.append)
    journal.gate.set()
    shell.pump()
    await until(lambda: journal.tables)  # the epoch
    journal.failures = 10**6
    if durable:
        now = time.monotonic()
        record = core.put(Kind.ENDPOINT, ENDPOINT.id, ENDPOINT, now)
        core.publish(1, [record], None, now + 1.0, now)
        shell.pump()
    else:
        shell._rows.append(Persist("peer", b"k", b"v", False))  # of a cache, and waits for the next commit
    await asyncio.wait_for(shell.stop(), 30)
    return told


@pytest.mark.parametrize("durable", [True, False])
def test_a_full_disk_does_not_hold_up_the_stop_and_nothing_is_told_that_was_not_written(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, durable: bool
) -> None:
    told = asyncio.run(stop_on_a_full_disk(monkeypatch, durable=durable))
    assert not any(isinstance(effect, Published) for effect in told)
    assert any("journal cannot be written" in record.message for record in caplog.records)
