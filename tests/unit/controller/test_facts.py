from __future__ import annotations

import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lograft.node.controller.facts import (
    BrokerFact,
    Change,
    DeletedTopicFact,
    PartitionFact,
    RecoveryFact,
    TopicFact,
    UnreadableFact,
    decode,
    delete,
    encode_batch,
    encode_value,
    put,
)
from lograft.partitions.raft.messages import Voter
from lograft.proto import record_batch

ID = "0123456789abcdef" * 2
VOTERS = (Voter(1, "a" * 32, 1), Voter(2, "b" * 32, 2))


def a_topic(name: str = "orders", topic_id: str = ID) -> TopicFact:
    return TopicFact(
        name=name,
        topic_id=topic_id,
        config={"durability": "fsync"},
        partitions=(PartitionFact(placement=VOTERS, first_voters=VOTERS),),
        next_replica_number=3,
        created_ms=1_700_000_000_000,
    )


A_BROKER = BrokerFact(broker_id=7, directory_id="c" * 32, rack="r1", joined_ms=5)
A_DELETION = DeletedTopicFact(topic_id=ID, name="orders", deleted_ms=6)


@pytest.mark.parametrize("fact", [a_topic(), A_BROKER, A_DELETION], ids=lambda fact: fact.key)
def test_a_fact_comes_back_from_its_record_as_it_was(fact: TopicFact | BrokerFact | DeletedTopicFact) -> None:
    assert decode(fact.key.encode(), encode_value(fact)) == (fact.key, fact)


def test_changes_of_one_decision_share_one_batch_and_keep_their_order() -> None:
    changes: list[Change] = [put(A_DELETION), delete(a_topic())]
    batch = encode_batch(changes, timestamp_ms=42)
    assert record_batch.verify(batch).width == 2
    assert [decode(record.key, record.value) for record in record_batch.decode(batch)] == changes
    assert {record.timestamp_ms for record in record_batch.decode(batch)} == {42}


def test_fields_of_a_later_version_survive_being_read_and_written_back() -> None:
    value = json.loads(encode_value(A_BROKER)) | {"zone": {"name": "north", "cells": [1, 2]}, "unknown": 3}
    _, fact = decode(b"broker/7", json.dumps(value).encode())
    assert isinstance(fact, BrokerFact)
    assert json.loads(encode_value(fact)) == value


def test_the_same_fact_gives_the_same_bytes_whatever_order_its_config_was_made_in() -> None:
    one = msgspec.structs.replace(a_topic(), config={"a": "1", "b": "2"})
    other = msgspec.structs.replace(a_topic(), config={"b": "2", "a": "1"})
    assert encode_value(one) == encode_value(other)


def changed(**fields: object) -> bytes:
    return json.dumps(json.loads(encode_value(a_topic())) | fields).encode()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, b"{}"),
        (b"\xff", b"{}"),
        (b"user/anna", b"{}"),
        (b"", None),
        (b"topic/orders", b""),
        (b"topic/orders", b"[]"),
        (b"topic/orders", b"{"),
        (b"topic/orders", b'{"name": "orders"}'),
        (b"topic/orders", b"[" * 100_000),
        (b"topic/other", changed()),
        (b"topic/orders", changed(topic_id="../../etc/passwd")),
        (b"topic/orders", changed(partitions=[])),
        (b"topic/orders", changed(partitions=[{"placement": [], "first_voters": []}])),
        (
            b"topic/orders",
            changed(partitions=[{"placement": [[1, "a", 1], [1, "b", 2]], "first_voters": [[1, "a", 1]]}]),
        ),
        (b"topic/orders", changed(next_replica_number=2)),
        (b"topic/orders", changed(partitions=[{"placement": [[1, "a"]], "first_voters": [[1, "a", 1]]}])),
        (b"broker/7", json.dumps({"broker_id": "7", "directory_id": "a", "rack": "", "joined_ms": 0}).encode()),
        (b"broker/07", encode_value(A_BROKER)),
    ],
)
def test_what_is_no_fact_is_named_as_unreadable_and_nothing_else(key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(UnreadableFact):
        decode(key, value)


@given(st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=80))
def test_no_bytes_make_decoding_fail_in_another_way(key: bytes | None, value: bytes | None) -> None:
    for prefix in (b"", b"topic/", b"broker/", b"deleted/"):
        with contextlib.suppress(UnreadableFact):
            decode(None if key is None else prefix + key, value)


FIRST, PLACED = Voter(1, "a" * 32, 1), Voter(1, "a" * 32, 5)
ELSEWHERE = Voter(3, "c" * 32, 6)


def ended_below(number: int) -> RecoveryFact:
    return RecoveryFact(
        number=1,
        source=VOTERS[1],
        heir=VOTERS[1]._replace(replica_number=number),
        first_number=number,
        term=9,
        kept_offset=0,
        lost_offset=0,
        unknown_brokers=(),
        decided_ms=0,
        by="",
    )


@pytest.mark.parametrize(
    ("why", "placement", "never_held", "recovery", "made"),
    [
        ("it is new", VOTERS, True, None, FIRST),
        ("it was placed elsewhere and back before it was made", (PLACED, VOTERS[1]), True, None, FIRST),
        ("it was placed elsewhere before it was made", (VOTERS[1], ELSEWHERE), True, None, FIRST),
        ("its first voter may have voted, and was let go", (PLACED, VOTERS[1]), False, None, PLACED),
        ("it may have voted, and is placed no more", (VOTERS[1], ELSEWHERE), False, None, None),
        ("a recovery ended the first voters", (PLACED, ELSEWHERE), True, ended_below(5), PLACED),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_first_voter_that_surely_never_was_is_made_before_whatever_is_placed(
    why: str, placement: tuple[Voter, ...], never_held: bool, recovery: RecoveryFact | None, made: Voter | None
) -> None:
    fact = PartitionFact(placement=placement, first_voters=VOTERS, recovery=recovery)
    assert fact.replica_to_make(1, "a" * 32, never_held=never_held) == made
    assert fact.replica_to_make(1, "f" * 32, never_held=never_held) is None, "another disk of that broker"
    assert fact.replica_to_make(9, "a" * 32, never_held=never_held) is None
