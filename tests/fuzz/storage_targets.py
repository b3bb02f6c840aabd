"""Readers of what is on a broker's disk: promises, heads, indexes, logs, and the notes of what was under way."""

from __future__ import annotations

import asyncio
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import crc32c
import msgspec
from lograft.node.data_directory import SUPERSEDED, DataDirectory
from lograft.partitions.environment import PartitionId
from lograft.partitions.producers import ProducerTable
from lograft.partitions.raft.messages import Voter
from lograft.partitions.raft.points import ORIGIN, Point
from lograft.partitions.storage import lineage
from lograft.partitions.storage.contents import Contents
from lograft.partitions.storage.lineage import LineageNote
from lograft.partitions.storage.promise_frames import (
    BLOCK_BYTES,
    BootFrame,
    ClusterSetFrame,
    CompactedFrame,
    CreatedFrame,
    DirectoryFrame,
    DoubtFrame,
    MarkFrame,
    StartNumberFrame,
    VoteFrame,
    WordFrame,
    encode_round,
    read_rounds,
)
from lograft.partitions.storage.promises import Promises
from lograft.partitions.storage.segment_head import SegmentHead
from lograft.partitions.storage.sparse_index import SparseIndex
from lograft.proto import record_batch
from lograft.proto.errors import InvalidConfig, NewerFormat

from tests.fuzz.record_targets import sealed_batch
from tests.fuzz.target import Target
from tests.unit.storage.fakes import (
    CONFIG,
    DATA,
    LOG_DIRECTORY,
    PARTITION,
    VOTERS,
    FakeDisk,
    FakeEnvironment,
    Inode,
    a_log,
    recovered,
    turns,
)

_OTHER = PartitionId("0" * 31 + "b", 0)
_POINT = Point(2, 9, 1)


# Promises -----------------------------------------------------------------------------------------------------------


def _rounds() -> bytes:
    rounds = (
        [DirectoryFrame("d1"), BootFrame("boot 1"), StartNumberFrame(7)],
        [CreatedFrame(PARTITION, 4), VoteFrame(PARTITION, 5, VOTERS[1]), MarkFrame(PARTITION, _POINT)],
        [WordFrame(PARTITION, _POINT), DoubtFrame(PARTITION, True), CompactedFrame(PARTITION, 5, 4)],
        [ClusterSetFrame(b"set"), CreatedFrame(_OTHER, 1), VoteFrame(_OTHER, 5, None)],
    )
    return b"".join(b"".join(encode_round(number, frames)) for number, frames in enumerate(rounds))


_HEADER = struct.Struct(">4sBBHIQI")


def sealed_rounds(data: bytes) -> bytes:
    """Every block that looks like the begin of a round gets the CRCs that fit it."""
    sealed = bytearray(data)
    for at in range(0, len(data) - _HEADER.size - 4, BLOCK_BYTES):
        magic, version, copy, zero, size, number, _ = _HEADER.unpack_from(sealed, at)
        if magic == b"LGPR":
            body = bytes(sealed[at + _HEADER.size + 4 : at + _HEADER.size + 4 + size])
            header = _HEADER.pack(magic, version, copy, zero, size, number, crc32c.crc32c(body))
            sealed[at : at + _HEADER.size + 4] = header + struct.pack(">I", crc32c.crc32c(header))
    return bytes(sealed)


def _open_promises(data: bytes) -> object:
    async def scenario() -> str:
        disk = FakeDisk()
        disk.names[f"{DATA}/promises.log"] = _a_file(data)
        disk.make_directory(LOG_DIRECTORY)
        promises = await Promises.open(FakeEnvironment(disk), DATA)
        return promises.directory_id

    return asyncio.run(scenario())


def _a_file(content: bytes) -> Inode:
    inode = Inode()
    inode.cache, inode.synced = bytearray(content), bytearray(content)
    return inode


# Heads and indexes --------------------------------------------------------------------------------------------------


def _sealed_with(prefix: struct.Struct, magic: bytes, *, sized: bool) -> Callable[[bytes], bytes]:
    """Prefix, CRC of prefix and payload, payload. The version is left as it is."""

    def seal(data: bytes) -> bytes:
        payload = data[prefix.size + 4 :]
        if len(data) < prefix.size + 4:
            return data
        fields = list(prefix.unpack_from(data))
        fields[0] = magic
        if sized:
            fields[-1] = len(payload)
        head = prefix.pack(*fields)
        return head + struct.pack(">I", crc32c.crc32c(payload, crc32c.crc32c(head))) + payload

    return seal


sealed_head = _sealed_with(struct.Struct(">4sHHI"), b"LGHD", sized=True)
sealed_index = _sealed_with(struct.Struct(">4sHH"), b"LGIX", sized=False)


def _producers() -> bytes:
    table = ProducerTable()
    made = record_batch.encode(
        [record_batch.NewRecord(1, None, b"v")],
        compression=record_batch.Compression.NONE,
        producer_id=7,
        producer_epoch=0,
        base_sequence=0,
    )
    table.note(record_batch.read_header(made), 3)
    return table.to_bytes()


_HEAD = SegmentHead(
    partition=PARTITION,
    base=_POINT,
    voters=VOTERS,
    start_offset=2,
    producers=_producers(),
    append_time_ms=5,
    bytes_before=100,
    landmarks_before=(Point(1, 0, 1), _POINT),
    voter_changes_before=(),
)


def _understand_head(data: bytes) -> object:
    """As opening a log does."""
    head = SegmentHead.from_bytes(data, "a head")
    contents = Contents(head)
    contents.next_head(PARTITION, 10).to_bytes()
    return head


def _an_index() -> tuple[bytes, bytes]:
    index = SparseIndex(_POINT, 100)
    for number in range(1, 5):
        index.note(Point(2, 9 + number, 1), 120 * number, 1000 + number)
    return index.to_files(600)


_PLACES, _TIMES = _an_index()


def _use_index(index: SparseIndex) -> object:
    index.before_point(_POINT)
    index.before_offset(10)
    index.before_timestamp(1001)
    return index


# Logs ---------------------------------------------------------------------------------------------------------------


def _a_disk() -> FakeDisk:
    async def scenario() -> FakeDisk:
        disk = FakeDisk()
        log = await a_log(FakeEnvironment(disk), "T1", 3, VOTERS[:2], *[2] * 6, "T2", *[1] * 8, config=CONFIG)
        await log.sync()
        await turns()
        return disk

    return asyncio.run(scenario())


_DISK = _a_disk()
_CONTENTS = {path: bytes(inode.cache) for path, inode in _DISK.names.items()}
_LOGS = sorted(path for path in _CONTENTS if path.startswith(LOG_DIRECTORY) and path.endswith(".log"))


def _recovering(path: str, mark: Point, *, same_boot: bool) -> Callable[[bytes], object]:
    """A log is recovered, read and written to, with the bytes given in one of its files."""

    def read(data: bytes) -> object:
        async def scenario() -> Point:
            disk = FakeDisk()
            disk.make_directory(LOG_DIRECTORY)
            for name, content in {**_CONTENTS, path: data}.items():
                disk.names[name] = _a_file(content)
            disk.synced_names = dict(disk.names)
            log, verdict = await recovered(FakeEnvironment(disk), mark, same_boot=same_boot, config=CONFIG)
            # What is behind a hole counts for nothing, what is before it can be read.
            if verdict.damage is None:
                list(log.read_items(log.base, log.end, 1 << 20))
            return log.end

        return asyncio.run(scenario())

    return read


def _sealed_log(data: bytes) -> bytes:
    """Every batch that is whole gets a good CRC."""
    sealed, position = b"", 0
    while len(data) - position >= record_batch.HEADER_SIZE:
        size = max(int.from_bytes(data[position + 8 : position + 12], "big") + 12, record_batch.HEADER_SIZE)
        sealed += sealed_batch(data[position : position + size])
        position += size
    return sealed + data[position:]


def _log_targets() -> list[Target]:
    targets = [
        Target(
            name=f"{shown} segment, {'same boot' if same_boot else 'after a reboot'}",
            read=_recovering(path, ORIGIN, same_boot=same_boot),
            seeds=[_CONTENTS[path]],
            refusals=(NewerFormat,),
            seal=_sealed_log,
        )
        for path, shown in ((_LOGS[0], "first"), (_LOGS[-1], "last"))
        for same_boot in (True, False)
    ]
    head = _LOGS[1].removesuffix(".log") + ".head"
    note = f"{LOG_DIRECTORY}/reset.head"
    goal = f"{LOG_DIRECTORY}/{0:020d}-{int(Path(_LOGS[1]).stem):020d}.replacement"
    return [
        *targets,
        Target(
            name="head of a log",
            read=_recovering(head, ORIGIN, same_boot=True),
            seeds=[_CONTENTS[head]],
            refusals=(NewerFormat,),
            seal=sealed_head,
        ),
        Target(
            name="note of a reset",
            read=_recovering(note, ORIGIN, same_boot=True),
            seeds=[_CONTENTS[head]],
            refusals=(NewerFormat,),
            seal=sealed_head,
        ),
        Target(
            name="replacement",
            read=_recovering(goal, ORIGIN, same_boot=True),
            seeds=[_CONTENTS[_LOGS[0]]],
            refusals=(NewerFormat,),
            seal=_sealed_log,
        ),
    ]


# Notes --------------------------------------------------------------------------------------------------------------


def _sealed_note(data: bytes) -> bytes:
    return crc32c.crc32c(data[4:]).to_bytes(4, "big") + data[4:]


def _read_lineage(data: bytes) -> object:
    disk = FakeDisk()
    disk.make_directory(LOG_DIRECTORY)
    disk.names[f"{LOG_DIRECTORY}/{lineage.FILE_NAME}"] = _a_file(data)
    return lineage.read_note(disk, DATA, PARTITION)


_LINEAGE = LineageNote(PARTITION, 1, 4, heir=Voter(1, "d1", 4), term=9, end=_POINT, records=b"batch")


def _claim_with(name: str) -> Callable[[bytes], object]:
    def claim(data: bytes) -> object:
        with tempfile.TemporaryDirectory() as path:
            (Path(path) / "format").write_bytes(b'{"format":1,"broker_id":1}\n')
            (Path(path) / name).write_bytes(data)
            directory = DataDirectory.claim(path, 1)
            try:
                directory.check_not_superseded("a" * 32, 5)
            finally:
                directory.release()
            return None

    return claim


STORAGE_TARGETS = (
    Target(
        name="rounds of promises",
        read=read_rounds,
        seeds=[_rounds()],
        refusals=(NewerFormat,),
        seal=sealed_rounds,
    ),
    Target(
        name="promises",
        read=_open_promises,
        seeds=[_rounds()],
        refusals=(
            NewerFormat,
            OSError,
        ),  # this disk has no errors of its own; rounds that contradict each other are one
        seal=sealed_rounds,
    ),
    Target(
        name="segment head",
        read=_understand_head,
        seeds=[_HEAD.to_bytes()],
        refusals=(ValueError, NewerFormat),
        seal=sealed_head,
        write=lambda head: head.to_bytes(),  # type: ignore[attr-defined]
    ),
    Target(
        name="producer table",
        read=ProducerTable.from_bytes,
        seeds=[_producers()],
        refusals=(ValueError,),
        write=lambda table: table.to_bytes(),  # type: ignore[attr-defined]
    ),
    Target(
        name="index",
        read=lambda data: _use_index(SparseIndex.from_files(data, _TIMES, _POINT, 600, 100)),
        seeds=[_PLACES],
        refusals=(ValueError,),
        seal=sealed_index,
        write=lambda index: index.to_files(600)[0],  # type: ignore[attr-defined]
    ),
    Target(
        name="time index",
        read=lambda data: _use_index(SparseIndex.from_files(_PLACES, data, _POINT, 600, 100)),
        seeds=[_TIMES],
        refusals=(ValueError,),
        seal=sealed_index,
        write=lambda index: index.to_files(600)[1],  # type: ignore[attr-defined]
    ),
    *_log_targets(),
    Target(
        name="note of a lineage",
        read=_read_lineage,
        seeds=[_sealed_note(b"\0\0\0\0" + msgspec.msgpack.encode(_LINEAGE))],
        refusals=(OSError,),
        seal=_sealed_note,
    ),
    Target(
        name="format file",
        read=_claim_with("format"),
        seeds=[b'{"format":1,"broker_id":1}\n'],
        refusals=(InvalidConfig,),
    ),
    Target(
        name="note of being superseded",
        read=_claim_with(SUPERSEDED),
        seeds=[msgspec.json.encode({"directory_id": "a" * 32, "start_number": 5, "why": "a copy"})],
        refusals=(InvalidConfig,),
        takes_seeds=False,
    ),
)
