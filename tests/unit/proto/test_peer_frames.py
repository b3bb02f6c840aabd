"""The framing of the link between brokers, whoever is at its other end."""

from __future__ import annotations

import random
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lograft.proto.peer_frames import FRAME_BYTES_MAX, FrameReader, FrameType, PeerFrameError, encode_frame

Frames = list[tuple[FrameType, bytes]]

frames_strategy = st.lists(st.tuples(st.sampled_from(FrameType), st.binary(max_size=60)), max_size=8)


def on_the_wire(frames: Frames) -> bytes:
    return b"".join(b"".join(encode_frame(kind, body)) for kind, body in frames)


def read(pieces: list[bytes]) -> Frames:
    reader = FrameReader()
    return [(kind, bytes(body)) for piece in pieces for kind, body in reader.feed(piece)]


def in_pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(stream) + 1) for cut in cuts})
    return [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]


def why_refused(stream: bytes) -> str:
    with pytest.raises(PeerFrameError) as caught:
        FrameReader().feed(stream)
    return caught.value.facts["what"]


@given(frames=frames_strategy, cuts=st.lists(st.integers(min_value=0), max_size=20))
def test_frames_do_not_depend_on_how_the_stream_was_cut(frames: Frames, cuts: list[int]) -> None:
    assert read(in_pieces(on_the_wire(frames), cuts)) == frames


@given(frames=frames_strategy)
def test_frames_that_come_byte_by_byte_are_the_same(frames: Frames) -> None:
    assert read([bytes([byte]) for byte in on_the_wire(frames)]) == frames


def test_a_body_of_many_buffers_arrives_as_one_and_none_was_copied() -> None:
    buffers = [b"abc", bytearray(b"defg"), memoryview(b"hij")[1:], b""]
    prefix, *sent = encode_frame(FrameType.RAFT, *buffers)
    assert all(one is other for one, other in zip(sent, buffers, strict=True))
    assert read([bytes(prefix), *map(bytes, sent)]) == [(FrameType.RAFT, b"abcdefgij")]


def test_a_body_handed_out_is_read_only_and_stays_as_it_was() -> None:
    reader = FrameReader()
    stream = on_the_wire([(FrameType.RAFT, b"first"), (FrameType.RAFT, b"second")])
    bodies = [body for piece in (stream[:10], stream[10:20], stream[20:]) for _, body in reader.feed(piece)]
    assert all(body.readonly for body in bodies)
    reader.feed(b"\0\0")
    assert bodies == [b"first", b"second"]


@pytest.mark.parametrize("length", [0, 1, 4, -1, -(1 << 31), (1 << 31) - 1, FRAME_BYTES_MAX + 1])
def test_an_impossible_length_is_refused_with_its_fourth_byte(length: int) -> None:
    stream = (length & 0xFFFFFFFF).to_bytes(4, "big")
    reader = FrameReader()
    assert reader.feed(stream[:3]) == []
    with pytest.raises(PeerFrameError):
        reader.feed(stream[3:])
    assert why_refused(stream) == "length"


def test_an_unknown_type_is_refused_before_its_body_comes() -> None:
    for code in set(range(256)) - set(FrameType):
        assert why_refused(struct.pack(">IB", 1_000, code)) == "type"


def test_every_bit_flipped_in_a_frame_is_noticed() -> None:
    stream = on_the_wire([(FrameType.RAFT, b"a body")])
    for position in range(len(stream)):
        for bit in range(8):
            flipped = bytearray(stream)
            flipped[position] ^= 1 << bit
            try:
                assert read([bytes(flipped)]) == []  # a longer frame, which never ends
            except PeerFrameError:
                continue
            assert position < 4


def test_a_great_length_sets_no_memory_aside() -> None:
    tracemalloc.start()
    try:
        reader = FrameReader()
        assert reader.feed(struct.pack(">IBI", FRAME_BYTES_MAX, FrameType.RAFT, 0) + bytes(1_000)) == []
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()


def test_the_largest_frame_goes_through_and_one_byte_more_does_not() -> None:
    body = bytes(FRAME_BYTES_MAX - 5)
    stream = b"".join(encode_frame(FrameType.CALL, body))
    assert read([stream[start : start + (1 << 20)] for start in range(0, len(stream), 1 << 20)]) == [
        (FrameType.CALL, body)
    ]
    with pytest.raises(PeerFrameError, match="limit"):
        encode_frame(FrameType.CALL, body, b"!")


@given(stream=st.binary(max_size=300), cuts=st.lists(st.integers(min_value=0), max_size=5))
def test_random_bytes_give_frames_or_an_error_and_nothing_else(stream: bytes, cuts: list[int]) -> None:
    try:
        read(in_pieces(stream, cuts))
    except PeerFrameError as error:
        assert error.facts["what"] in {"length", "type", "crc"}


@given(frames=frames_strategy, seed=st.integers(0, 1 << 32))
def test_a_damaged_stream_gives_only_frames_that_were_sent(frames: Frames, seed: int) -> None:
    chance = random.Random(seed)
    stream = bytearray(on_the_wire(frames) + b"\0")
    for _ in range(3):
        stream[chance.randrange(len(stream))] = chance.randrange(256)
    got: Frames = []
    reader = FrameReader()
    try:
        for byte in stream:
            got += [(kind, bytes(body)) for kind, body in reader.feed(bytes([byte]))]
    except PeerFrameError:
        pass
    assert got == frames[: len(got)]
