"""One writer's log and the owned store: gaps, resets, epochs; and a model of what an exchange must give."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vxlanu.control.core.config import LAN
from vxlanu.control.core.index import Index
from vxlanu.control.core.log import WriterLog
from vxlanu.control.core.messages import Delta
from vxlanu.control.core.out import Outbox
from vxlanu.control.core.owned import Owned
from vxlanu.control.core.records import Endpoint, Kind, NodeId, Record, encode_body
from vxlanu.control.core.shared import Shared, newer
from vxlanu.control.core.wire import Wire

WRITER, ME, OTHER = (NodeId(bytes([number]) * 16) for number in (1, 2, 3))


def record(version: int, key: bytes = b"k", epoch: int = 1, deleted: bool = False) -> Record:
    """A record of an unknown kind: the store must not care."""
    return Record(WRITER, epoch, version, 50, key, b"" if deleted else b"body", deleted, 100 if deleted else 0)


def store(me: NodeId) -> Owned:
    """An empty owned store."""
    out = Outbox(Wire(None, random.Random(1)))
    return Owned(me, LAN, out, Index(out))


def contents(owned: Owned, writer: NodeId = WRITER) -> dict[tuple[int, bytes], int]:
    """Live keys of one writer and their versions."""
    log = owned.logs.get(writer)
    return {(r.kind, r.key): r.version for r in log.live()} if log is not None else {}


def test_upto_never_claims_more_than_is_there() -> None:
    log = WriterLog(1)
    assert log.take(record(1, b"a")) and log.take(record(3, b"c"))
    assert (log.upto, log.extras) == (1, {3})
    assert log.take(record(3, b"c")) is None
    assert log.take(record(2, b"b"))
    assert (log.upto, log.extras) == (3, set())


def test_an_old_change_of_a_key_closes_the_gap_and_changes_nothing() -> None:
    log = WriterLog(1)
    log.take(record(2, b"a"))
    assert log.take(record(1, b"a")) is None
    assert log.upto == 2 and log.records[50, b"a"].version == 2


def test_a_new_epoch_is_shown_when_complete_and_not_before() -> None:
    owned = store(ME)
    assert owned.push(record(1, b"old"), 1, 0.0)
    assert not owned.push(record(1, b"new", epoch=2), 2, 0.0)
    assert contents(owned) == {(50, b"old"): 1}
    assert owned.push(record(2, b"newer", epoch=2), 2, 0.0)
    assert contents(owned) == {(50, b"new"): 1, (50, b"newer"): 2}
    assert owned.push(record(9, b"late", epoch=1), 1, 0.0)  # confirmed, so that it stops; and ignored
    assert (50, b"late") not in contents(owned)


def test_a_peer_below_the_floor_is_reset() -> None:
    ours, theirs = store(ME), store(OTHER)
    for target in (ours, theirs):
        target.push(record(1, b"a"), 1, 0.0)
        target.push(record(2, b"b"), 1, 0.0)
    ours.push(record(3, b"a", deleted=True), 1, 0.0)
    ours.expire(1000.0)
    assert (50, b"a") not in ours.logs[WRITER].records and ours.logs[WRITER].floor == 3
    deltas = ours.deltas_for(WRITER, 1, 2, 1000.0)
    assert deltas[0].reset
    for delta in deltas:
        theirs.delta(delta, 1000.0)
    assert contents(theirs) == contents(ours) == {(50, b"b"): 2}


def test_a_reset_that_was_broken_off_does_not_swallow_later_deltas() -> None:
    owned = store(ME)
    for version in range(1, 11):
        owned.push(record(version, bytes([version])), 1, 0.0)
    owned.delta(Delta(WRITER, 1, 20, 0, 0, 2, True, [record(1, b"\1"), record(2, b"\2")]), 0.0)
    assert len(contents(owned)) == 10  # the rest of the reset never came, and nothing is lost
    for after in (10, 11):
        owned.delta(Delta(WRITER, 1, 1, 0, after, after + 1, False, [record(after + 1, b"new")]), 0.0)
    assert contents(owned)[50, b"new"] == 12 and owned.vector() == [(WRITER, 1, 12)]


def test_a_fence_voids_what_was_written_before_it_and_what_comes_late() -> None:
    owned = store(ME)
    owned.push(record(1), 1, 0.0)
    owned.fence(WRITER, 5)
    assert WRITER not in owned.logs
    owned.push(record(2), 1, 0.0)
    assert WRITER not in owned.logs
    owned.push(record(1, epoch=6), 1, 0.0)  # positive control
    assert contents(owned) == {(50, b"k"): 1}


changes = st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.booleans()), min_size=1, max_size=30)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(changes, st.randoms(use_true_random=False), st.integers(0, 3))
def test_pushes_in_any_order_with_losses_and_then_one_exchange_equal_the_writer(
    script: list[tuple[bytes, bool]], rng: random.Random, lost_in_ten: int
) -> None:
    writer, reader = store(WRITER), store(ME)
    writer.begin(1, [])
    written = [writer.write(50, key, b"x", deleted, 0.0) for key, deleted in script]
    base = writer.logs[WRITER].base
    arriving = [one for one in written * 2 if rng.randrange(10) >= lost_in_ten]
    rng.shuffle(arriving)
    for one in arriving:
        reader.push(one, base, 0.0)
    if rng.random() < 0.3:
        writer.expire(1e9)  # every tombstone is gone: the reader may have to be reset
    log = reader.logs.get(WRITER)
    for delta in writer.deltas_for(WRITER, *((log.epoch, log.upto) if log is not None else (-1, 0)), 0.0):
        reader.delta(delta, 0.0)
    assert contents(reader) == contents(writer)
    assert reader.vector() == writer.vector()


def endpoint_record(writer: NodeId, version: int) -> Record:
    """A body that the index can read."""
    body = Endpoint(id=b"e" * 16, network=b"n" * 16, name="c0", mac="02:42:c0:a8:00:02", addresses=("192.168.0.2/24",))
    return Record(writer, 1, version, Kind.ENDPOINT, b"e" * 16, encode_body(body))


def test_a_body_that_lies_about_its_key_is_kept_and_stays_out_of_the_view() -> None:
    out = Outbox(Wire(None, random.Random(1)))
    index = Index(out)
    owned = Owned(ME, LAN, out, index)
    good = endpoint_record(WRITER, 1)
    owned.push(Record(WRITER, 1, 1, Kind.ENDPOINT, b"f" * 16, good.body), 1, 0.0)
    assert index.endpoints == {} and out.counters["body_invalid"] == 1
    owned.push(endpoint_record(WRITER, 2), 1, 0.0)  # positive control
    assert list(index.endpoints) == [(b"e" * 16, WRITER)]


@pytest.mark.parametrize("seed", range(5))
def test_merging_facts_in_any_order_gives_the_same(seed: int) -> None:
    rng = random.Random(seed)
    facts = [
        Record(NodeId(bytes([rng.randrange(4)]) * 16), 1, rng.randrange(1, 4), kind, b"n" * 16, rng.randbytes(2), False)
        for kind in (Kind.NETWORK, Kind.VTEP, 99)
        for _ in range(10)
    ]
    ends = []
    for _ in range(5):
        rng.shuffle(facts)
        out = Outbox(Wire(None, rng))
        shared = Shared(ME, out, Index(out))
        for fact in facts:
            shared.merge(fact)
        ends.append(shared.facts)
    assert all(end == ends[0] for end in ends)
    assert not newer(facts[0], facts[0])
