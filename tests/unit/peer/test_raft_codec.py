from __future__ import annotations

import struct
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lograft.node.peer.raft_codec import decode_raft, decode_raft_bundle, encode_raft, spoken_in
from lograft.partitions.environment import PartitionId
from lograft.partitions.producers import ProducerTable
from lograft.partitions.raft.messages import (
    AppendReply,
    AppendRequest,
    CampaignNow,
    HeadOffer,
    Message,
    ReadProbe,
    ReadProbeReply,
    RepairReply,
    RepairRequest,
    Serving,
    Voter,
    VoteReply,
    VoteRequest,
)
from lograft.partitions.raft.points import ORIGIN, Item, ItemKind, Point
from lograft.partitions.storage.segment_head import SegmentHead
from lograft.partitions.storage.zero_width import voter_change
from lograft.proto import record_batch
from lograft.proto.peer_frames import PeerFrameError

PARTITION = PartitionId("0" * 31 + "1", 3)
LEADER, FOLLOWER = Voter(1, "a" * 32, 1), Voter(2, "b" * 32, 4)


def records(prev: Point, values: list[bytes]) -> Item:
    batch = record_batch.encode(
        [record_batch.NewRecord(timestamp_ms=1_700_000_000_000, key=None, value=value, headers=()) for value in values],
        compression=record_batch.Compression.NONE,
    )
    point = Point(prev.term, prev.offset + len(values), prev.rank)
    return Item(point, ItemKind.RECORDS, bytes(record_batch.stamp(batch, prev.offset, prev.term)))


def zero_width(kind: ItemKind, point: Point, payload: bytes = b"") -> Item:
    return Item(point, kind, record_batch.zero_width(kind, point.offset, point.term, payload, 1_700_000_000_000))


def items_after(prev: Point, steps: list[int]) -> tuple[Item, ...]:
    """Items that could stand after `prev`: for each step 0 a new term, 1 and 2 other zero-width items, else records."""
    items = []
    for step in steps:
        if step == 0 or prev.term == 0:
            item = zero_width(ItemKind.TERM_START, Point(prev.term + 1, prev.offset, 1))
        elif step <= 2:
            point = Point(prev.term, prev.offset, prev.rank + 1)
            changed = voter_change(point, [LEADER, FOLLOWER], 1_700_000_000_000)
            item = changed if step == 1 else zero_width(ItemKind.LOG_START, point, b"payload")
        else:
            item = records(prev, [bytes([step]) * step] * (step - 2))
        items.append(item)
        prev = item.point
    return tuple(items)


numbers = st.integers(0, 2**63 - 1)
terms = st.integers(1, 2**31 - 1)
points = st.builds(Point, numbers, numbers, numbers)
voters = st.builds(Voter, st.integers(0, 2**31 - 1), st.text("0123456789abcdef", min_size=1, max_size=64), numbers)
partitions = st.builds(PartitionId, st.text("0123456789abcdef", min_size=32, max_size=32), st.integers(0, 2**31 - 1))
ends = {"sender": voters, "to": voters, "term": terms}


@st.composite
def appends(draw: st.DrawFn) -> AppendRequest:
    prev = draw(st.one_of(st.just(ORIGIN), st.builds(Point, st.integers(1, 9), st.integers(0, 99), st.integers(1, 9))))
    return AppendRequest(
        sender=draw(voters),
        to=draw(voters),
        term=draw(st.integers(30, 2**31 - 1)),
        session=draw(numbers),
        session_end=draw(points),
        prev=prev,
        committed=draw(points),
        items=items_after(prev, draw(st.lists(st.integers(0, 6), max_size=8))),
        append_time_ms=draw(numbers),
    )


@st.composite
def repairs(draw: st.DrawFn) -> RepairReply:
    after = draw(st.builds(Point, st.integers(1, 9), st.integers(0, 99), st.integers(1, 9)))
    return RepairReply(
        sender=draw(voters),
        to=draw(voters),
        term=draw(st.integers(30, 2**31 - 1)),
        number=draw(numbers),
        serving=draw(st.sampled_from(Serving)),
        after=after,
        leads=draw(st.booleans()),
        conflicts=draw(st.booleans()),
        rewritten_to=draw(numbers),
        items=items_after(after, draw(st.lists(st.integers(0, 6), max_size=8))),
    )


messages = st.one_of(
    st.builds(VoteRequest, **ends, last=points, pre=st.booleans(), transfer=st.booleans()),
    st.builds(VoteReply, **ends, granted=st.booleans(), pre=st.booleans(), doubtful=st.booleans()),
    st.builds(
        AppendReply,
        **ends,
        session=numbers,
        accepted=st.booleans(),
        match=points,
        committed=points,
        counts=st.booleans(),
    ),
    st.builds(ReadProbe, **ends, round_number=numbers),
    st.builds(ReadProbeReply, **ends, round_number=numbers),
    st.builds(CampaignNow, **ends),
    st.builds(
        RepairRequest,
        **ends,
        number=numbers,
        hole=points,
        after=points,
        claims=st.lists(points, max_size=5).map(tuple),
        base_offset=st.integers(-1, 2**63 - 1),
        bytes_max=st.integers(0, 2**31 - 1),
    ),
    repairs(),
    appends(),
    appends().map(lambda append: replace(append, committed=Point(9, 9, 9), committed_synced=Point(9, 9, 8))),
    st.builds(
        AppendReply,
        **ends,
        session=numbers,
        accepted=st.just(True),
        match=st.just(Point(7, 7, 7)),
        committed=points,
        counts=st.booleans(),
        synced=st.builds(Point, st.integers(0, 6), numbers, numbers),
    ),
)


def an_append(*steps: int) -> AppendRequest:
    prev = Point(3, 10, 1)
    return AppendRequest(LEADER, FOLLOWER, 9, 1, prev, prev, ORIGIN, items_after(prev, list(steps)), 5)


def an_offer(**changes: object) -> HeadOffer:
    """`changes` are made to the head alone."""
    base = Point(3, 10, 2)
    head = SegmentHead(
        partition=PARTITION,
        base=base,
        voters=(LEADER, FOLLOWER),
        start_offset=10,
        producers=ProducerTable().to_bytes(),
        append_time_ms=5,
    )
    content = msgspec.structs.replace(head, **changes).to_bytes()
    return HeadOffer(LEADER, FOLLOWER, 9, 1, base, (LEADER, FOLLOWER), content)


def body_of(*all_of_them: Message) -> bytes:
    return b"".join(bytes(part) for message in all_of_them for part in encode_raft(PARTITION, message))


def test_what_repairs_a_log_comes_back_with_its_head() -> None:
    offer = an_offer()
    reply = RepairReply(
        LEADER, FOLLOWER, 9, 7, Serving.ITEMS, offer.base, head=offer.head, items=items_after(offer.base, [3, 4])
    )
    assert decode_raft(body_of(reply)) == (PARTITION, reply)
    for wrong in (replace(reply, head=offer.head[:-1]), replace(reply, after=Point(3, 10, 1), items=())):
        with pytest.raises(PeerFrameError):
            decode_raft(body_of(wrong))


def test_peer_of_the_first_version_is_told_only_what_is_synced() -> None:
    written, synced = Point(3, 10, 1), Point(3, 7, 1)
    reply = AppendReply(FOLLOWER, LEADER, 9, 1, accepted=True, match=written, committed=ORIGIN, synced=synced)
    assert spoken_in(2, reply) == reply
    assert spoken_in(1, reply) == replace(reply, match=synced, synced=None)
    news = replace(an_append(), committed=written, committed_synced=synced)
    assert spoken_in(2, news) == news
    assert news.committed_synced is not None
    assert spoken_in(1, news) == replace(news, committed=news.committed_synced, committed_synced=None)


def test_more_synced_than_written_is_a_mistake() -> None:
    written, synced = Point(3, 10, 1), Point(3, 11, 1)
    reply = AppendReply(FOLLOWER, LEADER, 9, 1, accepted=True, match=written, committed=ORIGIN, synced=synced)
    for wrong in (reply, replace(an_append(), committed=written, committed_synced=written)):
        with pytest.raises(PeerFrameError, match="synced"):
            decode_raft(body_of(wrong))


@settings(deadline=None)  # a busy machine is no mistake
@given(partitions, messages)
def test_every_message_comes_back_as_it_was(partition: PartitionId, message: Message) -> None:
    decoded_partition, decoded = decode_raft(b"".join(encode_raft(partition, message)))
    assert (decoded_partition, decoded) == (partition, message)
    assert type(decoded_partition) is PartitionId and type(decoded.sender) is Voter
    for name in ("last", "match", "prev", "committed", "session_end"):
        assert type(getattr(decoded, name, ORIGIN)) is Point


@settings(deadline=None)  # a busy machine is no mistake
@given(st.lists(st.tuples(partitions, messages), min_size=1, max_size=5))
def test_messages_written_in_a_row_are_a_bundle(bundle: list[tuple[PartitionId, Message]]) -> None:
    body = b"".join(part for partition, message in bundle for part in encode_raft(partition, message))
    assert decode_raft_bundle(memoryview(body)) == bundle


def test_items_are_not_copied() -> None:
    message = an_append(4, 4)
    parts = encode_raft(PARTITION, message)
    assert [part for part in parts if any(part is item.data for item in message.items)] == parts[1:]
    body = b"".join(parts)
    _, decoded = decode_raft(body)
    assert isinstance(decoded, AppendRequest)
    for item in decoded.items:
        assert isinstance(item.data, memoryview) and item.data.obj is body


def test_term_start_without_bytes_of_its_own_travels_as_such() -> None:
    start = Item(Point(9, 10, 1), ItemKind.TERM_START, b"")
    message = AppendRequest(LEADER, FOLLOWER, 9, 1, start.point, Point(3, 10, 1), ORIGIN, (start,), 5)
    assert decode_raft(body_of(message))[1] == message


@settings(deadline=None)  # a busy machine is no mistake
@given(st.binary(max_size=300))
def test_random_bytes_are_a_frame_error_and_nothing_else(body: bytes) -> None:
    with pytest.raises(PeerFrameError):
        decode_raft_bundle(body)


@settings(deadline=None)  # a busy machine is no mistake
@given(messages, st.data())
def test_damaged_message_is_a_frame_error_or_another_message_but_never_wrong_items(
    message: Message, data: st.DataObject
) -> None:
    body = bytearray(b"".join(encode_raft(PARTITION, message)))
    if data.draw(st.booleans()):
        del body[data.draw(st.integers(0, len(body) - 1)) :]
    else:
        body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decoded = decode_raft_bundle(bytes(body))
    except PeerFrameError:
        return
    for _, changed in decoded:
        if isinstance(changed, AppendRequest):
            for item in changed.items:
                if item.data:
                    record_batch.verify(item.data)


def test_every_flipped_bit_of_an_items_signed_bytes_is_found() -> None:
    message = an_append(4)
    body = body_of(message)
    size = len(message.items[0].data)
    for position in range(len(body) - size + 17, len(body)):
        changed = bytearray(body)
        changed[position] ^= 0x10
        with pytest.raises(PeerFrameError):
            decode_raft(changed)


def with_items(message: AppendRequest, *items: Item) -> AppendRequest:
    return AppendRequest(
        LEADER, FOLLOWER, message.term, 1, message.session_end, message.prev, message.committed, items, 5
    )


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (records(Point(3, 11, 1), [b"x"]), "a gap before it"),
        (records(Point(3, 9, 1), [b"x"]), "an overlap"),
        (records(Point(4, 10, 1), [b"x"]), "records of a term that has not begun"),
        (zero_width(ItemKind.TERM_START, Point(4, 10, 2)), "a term that begins with its second item"),
        (zero_width(ItemKind.TERM_START, Point(3, 10, 2)), "a term that begins twice"),
        (zero_width(ItemKind.TERM_START, Point(4, 11, 1)), "a term that begins past the end"),
        (zero_width(ItemKind.TERM_START, Point(10, 10, 1)), "a term later than the message's"),
        (zero_width(ItemKind.VOTERS, Point(3, 10, 3)), "a rank left out"),
        (Item(Point(3, 10, 2), ItemKind.VOTERS, b""), "voters without bytes"),
        (zero_width(ItemKind.VOTERS, Point(3, 10, 2), b"payload"), "voters that cannot be read"),
        (voter_change(Point(3, 10, 2), []), "a change that leaves no voter"),
        (voter_change(Point(3, 10, 2), [LEADER, LEADER]), "a voter named twice"),
        (Item(Point(3, 11, 1), ItemKind.RECORDS, b""), "records without bytes"),
        (
            Item(Point(3, 12, 1), ItemKind.RECORDS, records(Point(3, 10, 1), [b"x"]).data),
            "a point that is not its batch's",
        ),
        (
            Item(Point(3, 10, 2), ItemKind.VOTERS, zero_width(ItemKind.LOG_START, Point(3, 10, 2)).data),
            "a kind that is not its batch's",
        ),
        (
            Item(Point(3, 11, 1), ItemKind.RECORDS, bytes(records(Point(3, 10, 1), [b"x"]).data) + b"!"),
            "more than a batch",
        ),
    ],
)
def test_items_that_cannot_follow_each_other_are_refused(wrong: Item, why: str) -> None:
    with pytest.raises(PeerFrameError):
        decode_raft(body_of(with_items(an_append(), wrong)))


def test_numbers_out_of_bounds_are_refused() -> None:
    for term in (0, -1, 2**63, 2**64 - 1):
        with pytest.raises(PeerFrameError):
            decode_raft(body_of(CampaignNow(LEADER, FOLLOWER, term)))
    with pytest.raises(PeerFrameError):
        decode_raft(body_of(CampaignNow(Voter(-1, "a", 1), FOLLOWER, 1)))
    with pytest.raises(PeerFrameError):
        decode_raft(body_of(CampaignNow(Voter(1, "a" * 65, 1), FOLLOWER, 1)))
    with pytest.raises(PeerFrameError):
        decode_raft(
            b"".join(encode_raft(PartitionId("../../etc/passwd" + "a" * 16, 0), CampaignNow(LEADER, FOLLOWER, 1)))
        )


def test_sizes_that_claim_more_than_came_are_refused_without_reading_on() -> None:
    for sizes in ((2**32 - 1, 0), (0, 2**32 - 1), (1, 1), (2**32 - 1, 2**32 - 1)):
        with pytest.raises(PeerFrameError):
            decode_raft(struct.pack(">II", *sizes))
    with pytest.raises(PeerFrameError):
        decode_raft(b"")


def test_body_of_two_messages_is_not_taken_for_one() -> None:
    with pytest.raises(PeerFrameError, match="expected one"):
        decode_raft(body_of(CampaignNow(LEADER, FOLLOWER, 1), CampaignNow(LEADER, FOLLOWER, 1)))


def test_an_offered_head_comes_back_with_the_voters_that_it_names() -> None:
    offer = an_offer()
    assert decode_raft(b"".join(encode_raft(PARTITION, offer))) == (PARTITION, offer)


@pytest.mark.parametrize(
    "changes",
    [
        {"partition": PartitionId("f" * 32, 3)},
        {"base": Point(3, 10, 3)},
        {"start_offset": 9},  # the log would start where nothing is
        {"producers": b"none"},
    ],
)
def test_a_head_that_no_log_of_the_partition_can_begin_with_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(PeerFrameError, match="the head that is offered"):
        decode_raft(b"".join(encode_raft(PARTITION, an_offer(**changes))))


def test_a_head_cut_short_or_flipped_anywhere_is_refused() -> None:
    offer = an_offer()
    for at in range(len(offer.head)):
        flipped = bytearray(offer.head)
        flipped[at] ^= 1
        for head in (bytes(flipped), offer.head[:at]):
            broken = HeadOffer(LEADER, FOLLOWER, 9, 1, offer.base, offer.voters, head)
            with pytest.raises(PeerFrameError):
                decode_raft(b"".join(encode_raft(PARTITION, broken)))


@pytest.mark.parametrize("term", [2**31, 2**63 - 1])
def test_term_that_no_log_has_room_for_is_refused(term: int) -> None:
    message = CampaignNow(LEADER, FOLLOWER, term)
    with pytest.raises(PeerFrameError):
        decode_raft(b"".join(map(bytes, encode_raft(PARTITION, message))))
