"""The audit of containers' way out, without a kernel: how often it mends, and that one trouble is one container's."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from vxlanu import netns
from vxlanu.gateway import egress, patience
from vxlanu.gateway.egress import Egress, Surroundings
from vxlanu.gateway.ground import Ground
from vxlanu.gateway.ledger import EgressRow, Ledger
from vxlanu.gateway.patience import BURST, REGAIN_S
from vxlanu.nsopen import EgressWire, HelperTimeout, KernelRefused, NamespaceHelper, WayOut, WireFacts
from vxlanu.nsopen.client import AT_ONCE


class Host:
    """Three targets. `lacking` says which of them want mending at a time; `hopeless` cannot be mended, `wrong` has
    a defect of ours. `missing` are those without a veth."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.lacking: Callable[[], list[str]] = list
        self.hopeless: set[str] = set()
        self.wrong: set[str] = set()
        self.missing: list[str] = []
        self.look_fails = False
        self.mended: Counter[str] = Counter()
        rows = {tag: EgressRow(tag=tag, address="172.18.0.2/16", users={tag: ()}, ifname="eth1") for tag in "abc"}
        self.ledger = cast(Ledger, SimpleNamespace(rows=rows, subnet="172.18.0.0/16"))
        ground = SimpleNamespace(settle=self._settle, why_not=str, look_at_firewall=self._look_at_firewall)
        around = Surroundings(lambda _: netns.own(), lambda endpoint: endpoint, lambda _: None)
        helper = SimpleNamespace(egress_look=self._look, egress_wire=self._wire)
        self.egress = Egress(cast(NamespaceHelper, helper), self.ledger, cast(Ground, ground), around)
        monkeypatch.setattr(egress, "time", SimpleNamespace(monotonic=lambda: self.now))

    async def audits(self, count: int) -> Counter[str]:
        """So many of them, and who was mended how often meanwhile."""
        before = self.mended.copy()
        for _ in range(count):
            await self.egress._audit()
            self.now += egress.AUDIT_S
        return self.mended - before

    async def _settle(self, _: object) -> list[str]:
        return list(self.missing)

    async def _look_at_firewall(self, _: float) -> None:
        return None

    async def _look(self, ways: list[WayOut]) -> list[str]:
        assert [way.tag for way in ways] == list(self.ledger.rows), "every target, each time"
        if self.look_fails:
            raise HelperTimeout("look into containers", "no answer")
        return self.lacking()

    async def _wire(self, _: int, plan: EgressWire) -> WireFacts:
        if plan.tag in self.wrong:
            raise RuntimeError(plan.tag)
        self.mended[plan.tag] += 1
        if plan.tag in self.hopeless:
            raise KernelRefused(f"wire {plan.tag}", "no")
        return WireFacts("eth1", 7, ("eth1 was down",))


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


def test_a_container_that_undoes_it_for_ever_costs_one_mending_a_minute(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "vxlanu.egress")

    async def scene() -> None:
        host.lacking = lambda: ["a"]
        first = await host.audits(BURST)
        assert first == {"a": BURST}, "at first each time"
        audits = round(600 / egress.AUDIT_S)
        assert await host.audits(audits) == {"a": pytest.approx(600 / REGAIN_S, abs=1)}
        host.lacking = lambda: ["a", "b"]
        assert (await host.audits(1))["b"] == 1, "another is mended at once"
        host.lacking = list
        await host.audits(round(BURST * REGAIN_S / egress.AUDIT_S) + 1)
        host.lacking = lambda: ["a"]
        assert await host.audits(BURST) == first, "left alone for long enough, it has all again"

    asyncio.run(scene())
    assert len(caplog.records) == host.mended.total(), "a line for each, and none for those that were not"
    assert "once a minute now" in caplog.text


def test_one_that_cannot_be_mended_is_said_once_and_stops_no_other(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "vxlanu.egress")

    async def scene() -> None:
        host.hopeless, host.lacking = {"a"}, lambda: ["a", "b"]
        assert await host.audits(2) == {"a": 2, "b": 2}
        host.hopeless = set()
        await host.audits(1)
        host.hopeless = {"a"}
        await host.audits(1)

    asyncio.run(scene())
    said = [record.getMessage() for record in caplog.records if "wire a" in record.getMessage()]
    assert len(said) == 2, "when it begins, and when it begins again"


def test_a_look_that_fails_keeps_no_veth_from_being_made(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "vxlanu.egress")
    host.missing, host.lacking = ["a"], lambda: ["b"]

    async def scene() -> None:
        host.look_fails = True
        assert await host.audits(2) == {"a": 2}
        host.look_fails, host.missing = False, []
        assert await host.audits(1) == {"b": 1}

    asyncio.run(scene())
    said = [record.getMessage() for record in caplog.records if "look into containers" in record.getMessage()]
    assert len(said) == 1, "in two audits"


def test_a_defect_of_ours_with_one_container_shows_after_the_others_are_mended(host: Host) -> None:
    host.wrong, host.lacking = {"a"}, lambda: ["a", "b", "c"]
    with pytest.raises(RuntimeError, match="a"):
        asyncio.run(host.audits(1))
    assert host.mended == {"b": 1, "c": 1}


def test_attaches_have_children_left_while_containers_are_mended() -> None:
    assert 1 <= egress.MENDS_AT_ONCE <= AT_ONCE // 2


def test_patience_forgets_who_is_gone_and_who_has_it_all_again() -> None:
    bucket = patience.Patience()
    assert [bucket.take("a", 0.0) for _ in range(BURST + 1)] == [True] * BURST + [False]
    bucket.keep(["a"], 0.0)
    assert bucket.over("a", 0.0)
    bucket.keep([], 0.0)
    assert bucket.take("a", 0.0), "another container, another bucket"
    bucket.keep(["a"], REGAIN_S)
    assert not bucket._full_at
