"""Every class of error: its exit code, its line, and that it crosses the API whole."""

from __future__ import annotations

import msgspec
import pytest

from vxlanu.api.schema import ErrorReply
from vxlanu.errors import (
    CLASSES,
    AgentUnreachable,
    AnswerIsNo,
    BadRequest,
    Conflict,
    NotFound,
    Refused,
    TryAgain,
    VxlanuError,
    from_reply,
    near,
)

EXIT_CODES = {
    AnswerIsNo: 1,
    BadRequest: 2,
    AgentUnreachable: 3,
    NotFound: 4,
    Conflict: 5,
    Refused: 6,
    TryAgain: 75,
}


def test_the_exit_codes_are_those_of_the_contract_and_tell_the_classes_apart() -> None:
    assert {kind: kind.exit for kind in CLASSES} == EXIT_CODES
    assert len({kind.exit for kind in CLASSES}) == len(CLASSES)


def test_every_class_has_a_name_of_its_own() -> None:
    assert len({kind.default_name for kind in CLASSES}) == len(CLASSES)


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_crosses_the_api_as_what_it_was(kind: type[VxlanuError]) -> None:
    sent = kind(
        "attach demonet c0", "192.168.0.100 is C0's", hint="another --ip", name="taken", detail={"holder": "C0"}
    )
    body = msgspec.json.decode(msgspec.json.encode(sent.reply()), type=ErrorReply).error
    came = from_reply(body)
    assert type(came) is kind
    assert came.line() == sent.line()
    assert (came.name, came.exit, came.detail) == ("taken", kind.exit, {"holder": "C0"})


def test_an_error_of_a_class_that_a_later_version_knows_is_still_an_error_with_its_words() -> None:
    body = VxlanuError("what", "why", hint="this", name="novel").reply().error
    body.exit = 99
    came = from_reply(body)
    assert type(came) is VxlanuError
    assert (came.line(), came.name, came.exit) == ("vxlanu: what: why; try: this", "novel", 1)


def test_the_line_has_what_and_why_and_advice_only_where_there_is_some() -> None:
    assert NotFound("network blue", "no such network").line() == "vxlanu: network blue: no such network"
    advised = NotFound("network blue", "no such network", hint="vxlanu network ls")
    assert advised.line() == "vxlanu: network blue: no such network; try: vxlanu network ls"


def test_the_advice_is_called_try_on_the_wire() -> None:
    wire = msgspec.json.decode(msgspec.json.encode(TryAgain("a", "b", hint="c").reply()))
    assert wire == {"error": {"name": "try_again", "exit": 75, "what": "a", "why": "b", "try": "c", "detail": {}}}


def test_near_names_are_found_whatever_their_case() -> None:
    assert near("c0", ["web", "C0", "C1"]) == "C0"
    assert near("demonett", ["demonet", "other"]) == "demonet"
    assert near("zzz", ["demonet"]) == ""
