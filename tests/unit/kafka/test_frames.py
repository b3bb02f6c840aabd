from __future__ import annotations

import tracemalloc

import pytest
from lograft.node.kafka.frames import TAGS_MAX, FrameReader, MalformedRequest, read_client_id, read_head

FRAMES = [b"a first request", b"x" * 8, b"and a longer one" * 40]
STREAM = b"".join(len(frame).to_bytes(4, "big") + frame for frame in FRAMES)


def all_of(reader: FrameReader) -> list[bytes]:
    return [bytes(frame) for frame in iter(reader.next, None)]


@pytest.mark.parametrize("size", [1, 3, 4, 7, 100, len(STREAM)])
def test_frames_come_out_whole_however_their_bytes_came_in(size: int) -> None:
    reader = FrameReader(1000)
    found = []
    for at in range(0, len(STREAM), size):
        reader.feed(STREAM[at : at + size])
        found += all_of(reader)
    assert found == FRAMES
    assert reader.waiting_bytes == 0 and not reader.is_amid


def test_a_frame_within_one_piece_of_input_is_not_copied() -> None:
    reader = FrameReader(1000)
    reader.feed(STREAM)
    frame = reader.next()
    assert isinstance(frame, memoryview) and frame.obj is STREAM


@pytest.mark.parametrize("length", [-1, 0, 7, 1001, 2**31 - 1, -(2**31)])
def test_a_length_that_no_request_has_is_refused_at_once(length: int) -> None:
    reader = FrameReader(1000)
    reader.feed(length.to_bytes(4, "big", signed=True))
    with pytest.raises(MalformedRequest):
        reader.next()


def test_what_has_come_is_counted_until_it_is_taken() -> None:
    reader = FrameReader(1000)
    reader.feed(STREAM[:10])
    assert reader.next() is None and reader.is_amid and reader.waiting_bytes == 6


def test_a_header_is_read_with_and_without_tagged_fields() -> None:
    frame = b"\0\x03\0\x0c\0\0\0\x05" + b"\0\x02me"
    assert read_head(frame) == (3, 12, 5)
    assert read_client_id(frame + b"body", is_flexible=False) == ("me", 12)
    assert read_client_id(frame + b"\0body", is_flexible=True) == ("me", 13)
    assert read_client_id(frame + b"\x01\x07\x02xybody", is_flexible=True) == ("me", 17)
    assert read_client_id(b"\0\x03\0\x0c\0\0\0\x05" + b"\xff\xff", is_flexible=False) == ("", 10)


@pytest.mark.parametrize(
    "rest",
    [b"", b"\0", b"\0\x05me", b"\xff\xfeme", b"\0\x02\xff\xff\0", b"\0\0\x01\x01\x7f", b"\0\0" + b"\xff" * 6],
)
def test_a_header_that_ends_early_or_contradicts_itself_is_malformed(rest: bytes) -> None:
    with pytest.raises(MalformedRequest):
        read_client_id(bytes(8) + rest, is_flexible=True)


def test_a_header_with_more_tagged_fields_than_any_client_sends_is_refused_before_they_are_walked_over() -> None:
    head = (18).to_bytes(2, "big") + (3).to_bytes(2, "big") + bytes(4) + b"\0\1c"
    few, many = bytes((TAGS_MAX,)), bytes((TAGS_MAX + 1,))
    assert read_client_id(head + few + b"\x07\x00" * TAGS_MAX, is_flexible=True)[0] == "c"
    with pytest.raises(MalformedRequest, match="tagged fields"):
        read_client_id(head + many + b"\x07\x00" * (TAGS_MAX + 1), is_flexible=True)


def test_what_drips_in_takes_little_more_memory_than_it_has_bytes() -> None:
    reader = FrameReader(1 << 20)
    frame = bytes(range(256)) * 200
    tracemalloc.start()
    try:
        for byte in len(frame).to_bytes(4, "big") + frame[:-1]:
            reader.feed(bytearray((byte,)))
            assert reader.next() is None
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 3 * len(frame)
    reader.feed(frame[-1:])
    assert reader.next() == frame and not reader.is_amid
