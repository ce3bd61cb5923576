"""Words that are addresses, and words that only look like them."""

from __future__ import annotations

import pytest

from vxlanu.addresses import is_address


@pytest.mark.parametrize(
    ("text", "version"), [("192.168.0.1", 4), ("::", 6), ("fd00::1", 6), ("fe80::1%eth0", 6), ("::ffff:192.0.2.1", 6)]
)
def test_an_address_is_one_of_its_version_alone(text: str, version: int) -> None:
    assert is_address(text) and is_address(text, version)
    assert not is_address(text, 10 - version)


@pytest.mark.parametrize(
    "text", ["", "C0", "1", "192.168.0", "192.168.0.256", "192.168.0.01", "192.168.0.1/24", " ::1", "[::1]", "fe80::1%"]
)
def test_what_is_none_is_none_of_either_version(text: str) -> None:
    assert not any(is_address(text, version) for version in (None, 4, 6))
