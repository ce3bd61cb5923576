"""Netlink bytes that no kernel sends: the reader comes to an end with them, and a look says `not whole`, no more."""

from __future__ import annotations

import errno
import struct
from types import SimpleNamespace

import pytest

from vxlanu.nsopen import look, rtnetlink
from vxlanu.nsopen.wire import WayOut

WAYS = [WayOut(tag, "eth1", "172.18.0.2/16", f"/{tag}", 1, 2) for tag in ("first", "second")]
NAME = struct.pack("=HH4s", 8, rtnetlink.IFLA_IFNAME, b"lo\0\0")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("length", range(4))
def test_an_attribute_that_has_no_room_for_itself_is_the_last(length: int) -> None:
    bad = struct.pack("=HH", length, 99)
    assert rtnetlink.attributes(NAME + bad, 0, rtnetlink.OF_LINK) == {rtnetlink.IFLA_IFNAME: b"lo\0\0"}
    assert rtnetlink.attributes(bad + NAME, 0, rtnetlink.OF_LINK) == {}


@pytest.mark.timeout(20)
def test_a_message_that_has_no_room_for_its_header_is_an_error() -> None:
    headers = [rtnetlink.HEADER.pack(it, rtnetlink.RTM_GETLINK, rtnetlink.NLM_F_MULTI, 1, 0) for it in (16, 0)]
    read = rtnetlink.messages(b"".join(headers))
    assert next(read) == (rtnetlink.RTM_GETLINK, rtnetlink.NLM_F_MULTI, b"")
    with pytest.raises(OSError) as refused:
        next(read)
    assert refused.value.errno == errno.EBADMSG


@pytest.mark.parametrize("surprise", [KeyError(1), ValueError("no text"), OSError(errno.EIO, "no"), struct.error("no")])
def test_an_answer_that_nobody_foresaw_is_one_containers_trouble(
    monkeypatch: pytest.MonkeyPatch, surprise: Exception
) -> None:
    entered: list[str] = []

    def link_called(_: str) -> tuple[int, str, bool]:
        if entered[-1] == "/first":
            raise surprise
        return 7, "eth1", True

    monkeypatch.setattr(look, "_ended", lambda _: False)
    monkeypatch.setattr(look, "_enter", entered.append)
    answers = {"link_called": link_called, "addresses": lambda _: {"172.18.0.2"}, "has_default_route": lambda: True}
    monkeypatch.setattr(look, "rtnetlink", SimpleNamespace(**answers))
    assert look.lacking(WAYS) == ["first"]
    assert entered == ["/first", "/second"]
