"""The shapes of the API are pinned: fields are only added (DESIGN.md 6).

`golden/NAME.json` holds one body of each struct of vxlanu.api.schema, every field away from its default, as clients and
agents of this version write it. A field that is removed, renamed or retyped breaks its file; the file is then right and
the change is wrong. A field that is added makes `test_the_golden_file_knows_every_field` ask for it: add it, once.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import msgspec.structs
import pytest
from msgspec import Struct

from vxlanu.api import schema

GOLDEN = Path(__file__).parent / "golden"
STRUCTS: dict[str, type[Struct]] = {
    name: kind
    for name, kind in vars(schema).items()
    if isinstance(kind, type) and issubclass(kind, Struct) and kind is not Struct
}
REQUESTS = {"NetworkCreate", "Attach", "Join", "VtepAdd", "CaptureWanted", "Reclaim"}


def decoded_as(name: str) -> object:
    return schema.Items[schema.Network] if name == "Items" else STRUCTS[name]


def disagreement(text: bytes, kind: object) -> str:
    """What is lost or changed when `text` passes through the struct; nothing when it survives whole."""
    wanted = json.loads(text)
    try:
        body = msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        return str(error)
    got = json.loads(msgspec.json.encode(body))
    lost = {key: value for key, value in wanted.items() if got.get(key) != value}
    return f"lost or changed: {lost}" if lost else ""


def test_every_struct_has_a_golden_file_and_every_file_a_struct() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(STRUCTS)


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_a_body_of_this_version_survives(name: str) -> None:
    assert disagreement((GOLDEN / f"{name}.json").read_bytes(), decoded_as(name)) == ""


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_the_golden_file_knows_every_field(name: str) -> None:
    written = json.loads((GOLDEN / f"{name}.json").read_text())
    assert sorted(written) == sorted(STRUCTS[name].__struct_encode_fields__)


@pytest.mark.parametrize("name", sorted(set(STRUCTS) - {"Items", "ErrorReply"}))
def test_no_golden_value_is_the_default_which_would_hide_a_lost_field(name: str) -> None:
    written = json.loads((GOLDEN / f"{name}.json").read_text())
    for found in msgspec.structs.fields(STRUCTS[name]):
        made = found.default_factory
        default = found.default if made is msgspec.NODEFAULT else made()
        if default is not msgspec.NODEFAULT and found.name != "scope":  # there is only one scope yet
            assert written[found.encode_name] != default, f"{name}.{found.name}"


@pytest.mark.parametrize("name", sorted(set(STRUCTS) - REQUESTS))
def test_an_answer_of_a_newer_agent_is_understood(name: str) -> None:
    newer = json.loads((GOLDEN / f"{name}.json").read_text()) | {"of_a_later_version": 1}
    msgspec.json.decode(json.dumps(newer).encode(), type=decoded_as(name))


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_a_request_with_an_unknown_field_is_refused(name: str) -> None:
    newer = json.loads((GOLDEN / f"{name}.json").read_text()) | {"of_a_later_version": 1}
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(json.dumps(newer).encode(), type=decoded_as(name))


class Renamed(Struct):
    """schema.Left with `told` renamed."""

    name: str
    heard: int = 0


class Removed(Struct):
    """schema.Left without `told`."""

    name: str


class Retyped(Struct):
    """schema.Left with `told` as text."""

    name: str
    told: str


@pytest.mark.parametrize("broken", [Renamed, Removed, Retyped])
def test_the_check_bites(broken: type[Struct]) -> None:
    golden = (GOLDEN / "Left.json").read_bytes()
    assert disagreement(golden, broken) != ""
    assert disagreement(golden, schema.Left) == ""
