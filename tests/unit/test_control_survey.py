"""The survey: who may ask, that each question is worked on once, and that its answer says by which ways it came."""

from __future__ import annotations

import random

from vxlanu.control.core.config import LOCAL, Config
from vxlanu.control.core.core import Core
from vxlanu.control.core.effects import CloseStream, Effect, SendDatagram, SendStream, SurveyAnswered, SurveyAsked
from vxlanu.control.core.messages import Alive, Message, Survey, Surveyed, encode_message
from vxlanu.control.core.records import NodeId

A, B, STRANGER = NodeId(b"a" * 16), NodeId(b"b" * 16), NodeId(b"s" * 16)
AT_A, AT_B = ("10.0.0.1", 7946), ("10.0.0.2", 7946)
CLEAR = b"\1\0"


def core_of_b() -> Core:
    """B, who knows A."""
    made = Core(Config(node=B, name="h2", control_host=AT_B[0], profile=LOCAL), [], random.Random(1), 0.0)
    made.handle_timer(0.0)
    hear(made, Alive(A, "h1", *AT_A, 1, 0, 7))
    made.effects()
    return made


def hear(core: Core, message: Message, addr: tuple[str, int] = AT_A) -> list[Effect]:
    core.receive_datagram(CLEAR + b"\x91" + encode_message(message), addr, 0.0)
    return core.effects()


def asked(effects: list[Effect]) -> list[Effect]:
    return [it for it in effects if isinstance(it, SurveyAsked)]


def test_a_member_is_heard_and_a_stranger_or_a_borrowed_name_is_not() -> None:
    core = core_of_b()
    assert asked(hear(core, Survey(5, STRANGER))) == []
    assert asked(hear(core, Survey(5, A), ("10.0.0.9", 7946))) == []
    assert core.counters()["survey_of_stranger"] == 2
    assert asked(hear(core, Survey(5, A, 1450))) == [SurveyAsked(A, 5, 1450)]


def test_a_question_that_comes_three_times_is_worked_on_once_and_a_second_one_waits_for_its_answer() -> None:
    core = core_of_b()
    assert len(asked(hear(core, Survey(5, A)))) == 1
    assert asked(hear(core, Survey(5, A))) == asked(hear(core, Survey(6, A))) == []
    core.answer_survey(A, Surveyed(5, B), 0.0)
    assert asked(hear(core, Survey(6, A))) == [SurveyAsked(A, 6, 1500)]


def test_the_answer_goes_back_by_datagram_and_stream_and_names_the_ways_of_the_question() -> None:
    core, stream = core_of_b(), 2
    hear(core, Survey(5, A))
    core.stream_opened(stream, ("10.0.0.1", 40000), 0.0)
    core.stream_message(stream, CLEAR + encode_message(Survey(5, A)), 0.0)
    core.effects()
    core.answer_survey(A, Surveyed(5, B, stream_back="silent", sizes=[1400]), 0.0)
    effects = core.effects()
    framed = next(it.data for it in effects if isinstance(it, SendStream) and it.stream == stream)
    assert core.survey_reply(framed) == Surveyed(5, B, True, True, "silent", [1400])
    assert sum(isinstance(it, SendDatagram) and it.to == AT_A for it in effects) == 2
    assert CloseStream(stream) in effects


def test_a_question_by_stream_alone_is_not_said_to_have_come_by_datagram() -> None:
    core, stream = core_of_b(), 2
    core.stream_opened(stream, ("10.0.0.1", 40000), 0.0)
    core.stream_message(stream, CLEAR + encode_message(Survey(5, A)), 0.0)
    core.answer_survey(A, Surveyed(5, B), 0.0)
    framed = next(it.data for it in core.effects() if isinstance(it, SendStream))
    reply = core.survey_reply(framed)
    assert reply is not None and reply.by_stream and not reply.by_datagram


def test_a_stranger_on_a_stream_is_shown_out() -> None:
    core, stream = core_of_b(), 2
    core.stream_opened(stream, ("10.0.0.9", 40000), 0.0)
    core.stream_message(stream, CLEAR + encode_message(Survey(5, A)), 0.0)
    assert core.effects() == [CloseStream(stream)]


def test_our_own_question_goes_to_the_member_and_its_answer_comes_back_as_an_event() -> None:
    core = core_of_b()
    core.ask_survey(A, 9, 1500)
    core.ask_survey(STRANGER, 9, 1500)
    assert [it.to for it in core.effects() if isinstance(it, SendDatagram)] == [AT_A]
    answer = Surveyed(9, A, True, False, "open", [128, 1500])
    assert SurveyAnswered(A, 9, answer) in hear(core, answer)
    assert core.survey_reply(b"nonsense") is None
