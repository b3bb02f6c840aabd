"""Readers of record batches, and of the facts that records of internal topics hold."""

from __future__ import annotations

import struct

import crc32c
from lograft.node.controller import facts as controller_facts
from lograft.node.groups import facts as group_facts
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.messages import Voter
from lograft.partitions.raft.points import Point
from lograft.partitions.storage import zero_width
from lograft.partitions.storage.recovery import readable_batches, stray_items
from lograft.proto import record_batch
from lograft.proto.errors import BatchTooLarge, CorruptBatch, InvalidRecord, UnsupportedCompression
from lograft.proto.message_parts import cut_out, field
from lograft.proto.record_batch import Compression, Header, NewRecord

from tests.fuzz.target import Target

_NOW_MS = 1_700_000_000_000
_SIZE_POSITION, _CRC_POSITION, _SIGNED_POSITION = 8, 17, 21
_VOTERS = (Voter(1, "a" * 32, 1), Voter(2, "b" * 32, 4))
_TOPIC_ID = "0123456789abcdef" * 2
_PARTITION = PartitionId(_TOPIC_ID, 3)


def _a_batch(compression: Compression) -> bytes:
    records = [
        NewRecord(_NOW_MS + number, b"key %d" % (number % 3), b"value %d" % number * 9, [Header("h", b"v")])
        for number in range(9)
    ]
    records.append(NewRecord(_NOW_MS, None, None, [Header("empty", None)]))
    return record_batch.encode(records, compression=compression, producer_id=7, producer_epoch=0, base_sequence=5)


BATCHES = [_a_batch(codec) for codec in (Compression.NONE, Compression.LZ4, Compression.ZSTD, Compression.GZIP)]
ZERO_WIDTHS = [
    record_batch.zero_width(kind, 10, 3, payload, _NOW_MS)
    for kind, payload in (
        (1, zero_width.encode_term_start(3)),
        (2, zero_width.encode_voters(_VOTERS)),
        (3, zero_width.encode_log_start(7)),
    )
]


def sealed_batch(data: bytes) -> bytes:
    """With the size and the CRC that fit what is there."""
    if len(data) < record_batch.HEADER_SIZE:
        return data
    data = data[:_SIZE_POSITION] + struct.pack(">i", len(data) - 12) + data[12:]
    crc = crc32c.crc32c(data[_SIGNED_POSITION:])
    return data[:_CRC_POSITION] + struct.pack(">I", crc) + data[_SIGNED_POSITION:]


def _retaining(data: bytes) -> object:
    """As compaction does: read it, and keep every second record."""
    unpacked = record_batch.unpack(data)
    count = len(unpacked.columns.offsets)
    return unpacked.retaining(range(0, count, 2)) if count else record_batch.emptied(unpacked.header)


def _fact_record(key: bytes, value: bytes) -> bytes:
    return len(key).to_bytes(2, "big") + key + value


def _key_and_value(data: bytes) -> tuple[bytes, bytes | None]:
    size = int.from_bytes(data[:2], "big")
    return data[2 : 2 + size], data[2 + size :] or None


def _controller_facts() -> list[bytes]:
    recovery = controller_facts.RecoveryFact(
        number=1,
        source=Voter(3, "c" * 32, 0),
        heir=_VOTERS[0],
        first_number=1,
        term=9,
        kept_offset=10,
        lost_offset=12,
        decided_ms=_NOW_MS,
        by="somebody",
    )
    partition = controller_facts.PartitionFact(placement=_VOTERS, first_voters=_VOTERS)
    recovered = controller_facts.PartitionFact(placement=_VOTERS, first_voters=_VOTERS, recovery=recovery)
    made: list[controller_facts.Fact] = [
        controller_facts.TopicFact(
            name="orders",
            topic_id=_TOPIC_ID,
            partitions=(partition, recovered),
            config={"retention.ms": "1000"},
            created_ms=_NOW_MS,
            next_replica_number=5,
        ),
        controller_facts.BrokerFact(broker_id=1, directory_id="a" * 32, rack="r", joined_ms=_NOW_MS),
        controller_facts.DeletedTopicFact(topic_id=_TOPIC_ID, name="gone", deleted_ms=_NOW_MS),
        controller_facts.SettingFact(name="gone.after", value=600_000),
    ]
    return [_fact_record(fact.key.encode(), controller_facts.encode_value(fact)) for fact in made]


def _group_facts() -> list[bytes]:
    made: list[tuple[group_facts.Key, group_facts.Value]] = [
        (group_facts.GroupKey("g"), group_facts.GroupFact(generation=4, seen={_TOPIC_ID: 6})),
        (
            group_facts.MemberKey("g", "m-1"),
            group_facts.MemberFact(topics=("orders",), pattern="a.*", session_timeout_ms=9000, joined_ms=_NOW_MS),
        ),
        (group_facts.GrantKey("g", _PARTITION), group_facts.GrantFact(member_id="m-1", generation=3)),
        (group_facts.OffsetKey("g/x", _PARTITION), group_facts.OffsetFact(offset=9, stored_ms=1, metadata="here")),
    ]
    return [_fact_record(group_facts.encode_key(key), group_facts.encode_value(value)) for key, value in made]


_RECORD_REFUSALS = (CorruptBatch, BatchTooLarge, UnsupportedCompression)

RECORD_TARGETS = (
    Target(
        name="batch header",
        read=record_batch.verify,
        seeds=[*BATCHES, *ZERO_WIDTHS],
        refusals=(CorruptBatch,),
        seal=sealed_batch,
    ),
    Target(
        name="produced batch",
        read=lambda data: record_batch.check_produced(data, bytes_max=1 << 20),
        seeds=BATCHES,
        refusals=(*_RECORD_REFUSALS, InvalidRecord),
        seal=sealed_batch,
    ),
    Target(name="records", read=record_batch.decode, seeds=BATCHES, refusals=_RECORD_REFUSALS, seal=sealed_batch),
    Target(name="records to compact", read=_retaining, seeds=BATCHES, refusals=_RECORD_REFUSALS, seal=sealed_batch),
    Target(
        name="message around batches",
        read=lambda data: cut_out(data, 4, fields_max=1_000),
        seeds=[b"".join([b"\x0a\x01t\x10\x03", *field(4, BATCHES), b"\x28\x09\x39", bytes(8), b"\x45", bytes(4)])],
        refusals=(ValueError,),
    ),
    Target(
        name="batches in a row",
        read=lambda data: list(record_batch.split(data)),
        seeds=[b"".join(BATCHES)],
        refusals=(CorruptBatch,),
    ),
    Target(
        name="zero-width batch",
        read=record_batch.read_zero_width,
        seeds=ZERO_WIDTHS,
        refusals=(CorruptBatch,),
        seal=sealed_batch,
    ),
    Target(
        name="readable batches",
        read=lambda data: list(readable_batches(data)),
        seeds=[b"".join(ZERO_WIDTHS), b"noise" + b"".join(BATCHES)],
    ),
    Target(
        name="stray items",
        read=lambda data: stray_items(data, after=Point(3, 10, 1), term_max=9),
        seeds=[b"".join(ZERO_WIDTHS), b"noise" + b"".join(BATCHES)],
    ),
    Target(
        name="voters",
        read=zero_width.decode_voters,
        seeds=[zero_width.encode_voters(_VOTERS)],
        refusals=(CorruptBatch,),
        write=lambda voters: zero_width.encode_voters(voters),  # type: ignore[arg-type]
    ),
    Target(
        name="log start",
        read=lambda data: zero_width.decode_log_start(data, 100),
        seeds=[zero_width.encode_log_start(99)],
        refusals=(CorruptBatch,),
        write=lambda start: zero_width.encode_log_start(start),  # type: ignore[arg-type]
    ),
    Target(
        name="facts of the controller",
        read=lambda data: controller_facts.decode(*_key_and_value(data)),
        seeds=_controller_facts(),
        refusals=(controller_facts.UnreadableFact,),
        write=lambda change: _fact_record(change[0].encode(), controller_facts.encode_value(change[1])),  # type: ignore[index]
    ),
    Target(
        name="facts of groups",
        read=lambda data: group_facts.decode(*_key_and_value(data)),
        seeds=_group_facts(),
        refusals=(group_facts.UnreadableFact,),
        write=lambda change: _fact_record(group_facts.encode_key(change[0]), group_facts.encode_value(change[1])),  # type: ignore[index]
    ),
)
