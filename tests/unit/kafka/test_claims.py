"""What a request claims is there, before anything is set aside for it."""

from __future__ import annotations

import contextlib
import struct

import pytest
from lograft.node.kafka.apis import APIS, PRODUCE
from lograft.node.kafka.claims import ENTRIES_MAX, check_claims
from lograft.node.kafka.codec import decode_request, request_codec
from lograft.node.kafka.frames import TAGS_MAX, MalformedRequest, read_client_id, unsigned_varint
from lograft.node.kafka.hot_codec import read_produce_request

from tests.unit.kafka.fakes import a_request

ALL = [(api.key, version) for api in APIS.values() for version in range(api.answered_from, api.highest + 1)]


def a_body(key: int, version: int) -> tuple[bytes, int]:
    frame = a_request(key, version)
    return frame, read_client_id(frame, is_flexible=request_codec(key, version).is_flexible)[1]


def of_each(requests: list[tuple[int, int]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("key", "version"), requests, ids=[f"{APIS[key].name}-{v}" for key, v in requests])


@of_each(ALL)
def test_a_request_that_is_whole_is_walked_over_to_its_end_and_one_that_is_not_is_refused(
    key: int, version: int
) -> None:
    frame, position = a_body(key, version)
    check_claims(key, version, frame, position)
    for size in range(position, len(frame)):
        with pytest.raises(MalformedRequest):
            check_claims(key, version, frame[:size], position)


@of_each(ALL)
def test_what_follows_a_request_is_left_alone(key: int, version: int) -> None:
    """As with Kafka: clients do leave bytes behind."""

    def decode(frame: bytes) -> object:
        if key == PRODUCE:
            return read_produce_request(frame, position, version)
        return decode_request(key, version, frame, position)

    frame, position = a_body(key, version)
    assert decode(frame + b"\1\0\0") == decode(frame)


def test_librdkafka_asks_for_all_topics_with_three_bytes_too_many() -> None:
    asked = bytes.fromhex("0003000c00000003000772646b61666b610000000000010000")
    position = read_client_id(asked, is_flexible=True)[1]
    assert decode_request(3, 12, asked, position).topics is None


def test_tagged_fields_of_a_produce_request_are_bounded() -> None:
    frame, position = a_body(PRODUCE, 9)
    assert frame[-1] == 0, "the last byte says that there are none"
    with pytest.raises(MalformedRequest, match="tagged fields"):
        read_produce_request(frame[:-1] + unsigned_varint(100_000) + b"\0\0" * 100_000, position, 9)


@of_each(ALL)
def test_no_claim_at_any_place_makes_room_for_more_than_came(key: int, version: int) -> None:
    """Some of these made the process end for want of memory."""
    frame, position = a_body(key, version)
    for at in range(position, len(frame)):
        for claim in (unsigned_varint(2**32 - 1), unsigned_varint(2**28), struct.pack(">i", 2**31 - 1)):
            for data in (frame[:at] + claim + frame[at + 1 :], frame[:at] + claim + frame[at + len(claim) :]):
                with contextlib.suppress(MalformedRequest):
                    decode_request(key, version, data, position)


def test_the_entries_of_all_lists_of_a_request_are_bounded() -> None:
    def metadata(topics: int) -> bytes:
        return struct.pack(">i", topics) + b"\0\1t" * topics

    check_claims(3, 1, metadata(ENTRIES_MAX), 0)
    with pytest.raises(MalformedRequest, match="more than"):
        check_claims(3, 1, metadata(ENTRIES_MAX + 1), 0)


def test_a_known_tagged_field_does_not_come_again_and_again() -> None:
    """A cluster id in a Fetch request, three bytes each time."""
    frame, position = a_body(1, 12)
    assert frame.endswith(b"\0")
    again = TAGS_MAX + 1
    tags = unsigned_varint(again) + b"\0\1\0" * again
    with pytest.raises(MalformedRequest, match="tagged fields"):
        check_claims(1, 12, frame[:-1] + tags, position)
