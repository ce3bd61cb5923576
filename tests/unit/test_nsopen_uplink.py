"""What the helper of injection makes of the kernel's answers, which are played."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from vxlanu.nsopen import uplink

POLICY, DONE, ERROR = 0x13, 0x3, 0x2


class Xfrm:
    """A socket of NETLINK_XFRM that answers with one message."""

    def __init__(self, kind: int) -> None:
        self.kind = kind

    def __call__(self, family: int, kind: int, protocol: int) -> Xfrm:
        assert (family, protocol) == (socket.AF_NETLINK, uplink.NETLINK_XFRM)
        return self

    def __enter__(self) -> Xfrm:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def send(self, message: bytes) -> None:
        length, kind = struct.unpack_from("=IH", message)
        assert (length, kind) == (len(message), uplink.XFRM_MSG_GETPOLICY)

    def recv(self, size: int) -> bytes:
        return struct.pack("=IHHII", 20, self.kind, 0, 1, 0) + struct.pack("=i", -errno.EPERM)


@pytest.mark.parametrize(("answer", "has"), [(POLICY, True), (ERROR, True), (DONE, False)])
def test_only_a_host_that_says_so_has_no_ipsec(monkeypatch: pytest.MonkeyPatch, answer: int, has: bool) -> None:
    monkeypatch.setattr(uplink.socket, "socket", Xfrm(answer))
    assert uplink._has_ipsec() == has


def test_a_kernel_without_ipsec_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: int) -> None:
        raise OSError(errno.EPROTONOSUPPORT, "no such protocol")

    monkeypatch.setattr(uplink.socket, "socket", none)
    assert not uplink._has_ipsec()
