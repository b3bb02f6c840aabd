"""Readers of what Kafka clients send: frames, requests of every kind and version, and batches that pass through."""

from __future__ import annotations

import struct

from lograft.node.kafka.apis import APIS, PRODUCE
from lograft.node.kafka.codec import decode_request, request_codec
from lograft.node.kafka.frames import FrameReader, MalformedRequest, read_client_id, read_head
from lograft.node.kafka.hot_codec import read_produce_request
from lograft.proto.errors import LograftError
from lograft.proto.record_batch import HEADER_SIZE, Compression, NewRecord, check_produced, encode, stamp, verify

from tests.fuzz.record_targets import sealed_batch
from tests.fuzz.target import Target
from tests.unit.kafka.fakes import a_request

FRAME_BYTES_MAX = 16 << 20
BATCH_BYTES_MAX = 1 << 20


def _frames(data: bytes) -> object:
    """What is read must not depend on how the stream was cut."""

    def read(step: int) -> list[bytes] | str:
        reader, found = FrameReader(FRAME_BYTES_MAX), []
        try:
            for at in range(0, len(data), step):
                reader.feed(data[at : at + step])
                while (frame := reader.next()) is not None:
                    found.append(bytes(frame))
        except MalformedRequest as error:
            return str(error)
        assert reader.waiting_bytes == len(data) - sum(4 + len(one) for one in found) - 4 * (reader._size is not None)
        return found

    whole, pieces = read(len(data) or 1), read(max(1, len(data) // 50))
    assert whole == pieces, "it matters how the stream was cut"
    if isinstance(whole, str):
        raise MalformedRequest(whole)
    return whole


def _request(frame: bytes) -> object:
    """As `Requests.take` reads one, up to the handler."""
    if len(frame) < 8:
        raise MalformedRequest("no frame is so short")
    head = read_head(frame)
    api = APIS.get(head.api_key)
    if api is None or not api.answers(head.api_version):
        raise MalformedRequest("not known")
    is_flexible = request_codec(api.key, head.api_version).is_flexible
    _, position = read_client_id(frame, is_flexible=is_flexible)
    if api.key != PRODUCE:
        return decode_request(api.key, head.api_version, frame, position)
    request = read_produce_request(frame, position, head.api_version)
    for batch in request.batches:
        if batch.records is not None and len(batch.records) >= HEADER_SIZE:
            _pass_through(bytes(batch.records))
    return request


def _pass_through(batch: bytes) -> object:
    """A batch that is taken is, once it is stamped, a batch with the same bytes behind the stamp."""
    header = check_produced(batch, bytes_max=BATCH_BYTES_MAX)
    stamped = stamp(batch, 1 << 40, 77)
    placed = verify(stamped)
    assert (placed.base_offset, placed.term, placed.size) == (1 << 40, 77, len(batch))
    assert stamped[16:] == batch[16:] and placed.crc == header.crc
    return header


_RECORDS = [NewRecord(1_700_000_000_000 + number, b"key", b"value" * 20) for number in range(3)]
_BATCHES = [encode(_RECORDS, compression=codec) for codec in (Compression.NONE, Compression.LZ4, Compression.ZSTD)]
_NUMBERED = encode(_RECORDS, producer_id=7, producer_epoch=1, base_sequence=5)
_REQUESTS = [
    a_request(api.key, version) for api in APIS.values() for version in sorted({api.answered_from, api.highest})
]

KAFKA_TARGETS = (
    Target(
        name="kafka frames",
        read=_frames,
        seeds=[b"".join(struct.pack(">i", len(one)) + one for one in _REQUESTS[:6]), struct.pack(">i", 9) + bytes(9)],
        refusals=(MalformedRequest,),
    ),
    Target(name="kafka request", read=_request, seeds=_REQUESTS, refusals=(LograftError,)),
    Target(
        name="kafka batch",
        read=_pass_through,
        seeds=[*_BATCHES, _NUMBERED],
        refusals=(LograftError,),
        seal=sealed_batch,
    ),
)
