"""What may be used where the kernel could not be asked, or not to the end: nothing that not everybody has."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import cast

import pytest
import pytun

from vxlanu.agent.ladder import Ladder
from vxlanu.config import OFFLOADS
from vxlanu.nsopen import NamespaceHelper, probe, syscalls, tap
from vxlanu.nsopen.place import Place
from vxlanu.nsopen.wire import HelperTimeout, TapFeatures


class Host:
    """A helper that answers so, or not at all."""

    def __init__(self, features: TapFeatures | None) -> None:
        self._features = features

    async def probe_tap(self) -> TapFeatures:
        if self._features is None:
            raise HelperTimeout("probe", "no answer")
        return self._features


@pytest.mark.parametrize(
    ("features", "missing"),
    [(None, {"uso", "steering"}), (TapFeatures({}), set())],
    ids=["no answer", "an answer"],
)
def test_a_kernel_that_could_not_be_asked_is_taken_for_an_old_one_that_gives_no_privilege(
    features: TapFeatures | None, missing: set[str]
) -> None:
    ladder = asyncio.run(Ladder.probe("auto", cast(NamespaceHelper, Host(features))))
    assert set(OFFLOADS) - ladder.allowed == missing
    assert ladder.tap_queues(2).steering is ("steering" not in missing)


@pytest.mark.parametrize("privileged", [True, False], ids=["with bpf()", "without"])
def test_steering_is_tried_where_there_is_no_vnet_hdr(monkeypatch: pytest.MonkeyPatch, privileged: bool) -> None:
    def load(_: int) -> int:
        if not privileged:
            raise OSError(errno.EPERM, "Operation not permitted")
        return os.open(os.devnull, os.O_RDONLY)

    monkeypatch.setattr(tap, "check_tun", lambda: pytun.IFF_MULTI_QUEUE)
    monkeypatch.setattr(syscalls, "steering_program", load)
    lacking = probe.features(cast(Place, None)).lacking  # that goes nowhere without vnet-hdr
    assert lacking.keys() == {"vnet-hdr", "tso", "uso"} | (set() if privileged else {"steering"})
    assert privileged or lacking["steering"] == "bpf() gives EPERM"
