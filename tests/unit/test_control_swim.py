"""The arithmetic of SWIM and Lifeguard against memberlist's tables, and the gossip queue."""

from __future__ import annotations

import pytest

from vxlanu.control.core.awareness import Awareness
from vxlanu.control.core.config import LAN
from vxlanu.control.core.gossip import GossipQueue
from vxlanu.control.core.messages import Nack, encode_message
from vxlanu.control.core.records import NodeId
from vxlanu.control.core.suspicion import Suspicion, accuse, retransmit_limit, sync_interval


def node(number: int) -> NodeId:
    """Any id."""
    return NodeId(number.to_bytes(16, "big"))


# memberlist suspicion_test.go, TestSuspicion_remainingSuspicionTime: k = 3, min 2 s, max 30 s, elapsed taken off
@pytest.mark.parametrize(
    ("confirmations", "elapsed", "remaining"),
    [(0, 0.0, 30.0), (1, 2.0, 14.0), (2, 3.0, 4.810), (3, 4.0, -2.0), (4, 5.0, -3.0), (5, 10.0, -8.0)],
)
def test_remaining_time_is_that_of_memberlist(confirmations: int, elapsed: float, remaining: float) -> None:
    suspicion = Suspicion(node(0), node(1), 100.0, 2.0, 30.0, 3)
    for confirmer in range(confirmations):
        suspicion = suspicion.confirm(node(10 + confirmer))
    assert suspicion.deadline() - (100.0 + elapsed) == pytest.approx(remaining, abs=0.001)


def test_the_accuser_and_repeated_confirmers_count_once() -> None:
    suspicion = Suspicion(node(0), node(1), 0.0, 2.0, 30.0, 3)
    assert suspicion.confirm(node(1)) is suspicion
    once = suspicion.confirm(node(2))
    assert once.deadline() < suspicion.deadline()
    assert once.confirm(node(2)) is once


def test_nobody_waits_for_confirmations_that_cannot_come() -> None:
    assert accuse(node(0), node(1), 3, LAN, 0.0).deadline() == 4.0  # k = 0: the shortest time at once
    assert accuse(node(0), node(1), 4, LAN, 0.0).deadline() == 24.0
    assert accuse(node(0), node(1), 100, LAN, 0.0).deadline() == 48.0  # log10(100) = 2


# memberlist util_test.go: TestRetransmitLimit, TestPushPullScale
def test_scaling_formulas_are_those_of_memberlist() -> None:
    assert [retransmit_limit(members, LAN) for members in (0, 1, 9, 99, 100)] == [0, 4, 4, 8, 12]
    seconds = LAN.sync_interval
    assert [sync_interval(members, LAN) for members in (1, 32, 33, 64, 65, 128)] == [
        *(seconds, seconds),
        *(2 * seconds, 2 * seconds),
        *(3 * seconds, 3 * seconds),
    ]


def test_awareness_stays_in_range_and_stretches_timeouts() -> None:
    awareness = Awareness(8)
    assert awareness.moved(-1).score == 0
    assert awareness.moved(100).score == 7
    assert awareness.moved(2).scaled(0.5) == 1.5


def test_gossip_tells_the_least_told_first_replaces_older_news_and_ends() -> None:
    queue = GossipQueue()
    size = len(encode_message(Nack(1)))
    queue.tell(node(1), Nack(1))
    queue.tell(node(2), Nack(2))
    assert queue.take(size, 3) == [encode_message(Nack(1))]  # room for one: the older
    assert queue.take(size, 3) == [encode_message(Nack(2))]  # then the one told less often
    queue.tell(node(1), Nack(9))
    assert queue.take(10 * size, 1) == [encode_message(Nack(9)), encode_message(Nack(2))]
    assert len(queue) == 0 and queue.take(1000, 3) == []
