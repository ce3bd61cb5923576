"""Key file, seal and identity."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from vxlanu.control.core.errors import LocalError
from vxlanu.control.identity import load_or_create, node_id
from vxlanu.control.seal import Seal, load_key, new_key
from vxlanu.control.seeds import parse_seed

NONCE = bytes(12)


def test_what_is_sealed_opens_with_the_same_key_and_context_only() -> None:
    seal = Seal(bytes(32))
    sealed = seal.seal(b"hello", NONCE, b"datagram")
    assert seal.open(sealed, b"datagram") == b"hello"
    assert seal.open(sealed, b"frame") is None
    assert Seal(bytes(31) + b"\1").open(sealed, b"datagram") is None
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        assert seal.open(bytes(changed), b"datagram") is None
    assert all(seal.open(sealed[:length], b"datagram") is None for length in range(len(sealed)))


def test_a_key_file_round_trips_and_anything_else_is_refused_without_being_shown(tmp_path: Path) -> None:
    path = tmp_path / "cluster.key"
    path.write_text(new_key())
    assert len(load_key(path)) == 32
    for wrong in ("", "c2VjcmV0", "secret!!", "é"):
        path.write_text(wrong)
        with pytest.raises(LocalError, match="key_invalid") as error:
            load_key(path)
        assert not wrong or wrong not in str(error.value)
    with pytest.raises(LocalError, match="key_invalid"):
        load_key(tmp_path / "absent")


def test_an_identity_is_made_once_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "identity.pem"
    first = node_id(load_or_create(path))
    assert len(first) == 16 and node_id(load_or_create(path)) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert node_id(load_or_create(tmp_path / "other.pem")) != first
    path.write_text("not a key")
    with pytest.raises(LocalError, match="identity_invalid"):
        load_or_create(path)
    assert path.read_text() == "not a key"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("h1", ("h1", 7946)),
        ("h1:99", ("h1", 99)),
        ("10.0.0.1", ("10.0.0.1", 7946)),
        ("fd00::1", ("fd00::1", 7946)),
        ("[fd00::1]:99", ("fd00::1", 99)),
        ("[fd00::1]", ("fd00::1", 7946)),
    ],
)
def test_seeds_are_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert parse_seed(text) == address


@pytest.mark.parametrize("text", ["", ":99", "h1:0", "h1:65536", "h1:x", "[fd00::1]99", "[]:5"])
def test_what_is_no_seed_is_refused(text: str) -> None:
    with pytest.raises(LocalError, match="seed_invalid"):
        parse_seed(text)
