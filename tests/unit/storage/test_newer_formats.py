"""A version that is older than the files leaves every one of them as it is, and says which one it cannot read."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import crc32c
import msgspec
import pytest
from lograft.partitions.raft.points import ORIGIN, Point
from lograft.partitions.storage import promise_frames, sparse_index
from lograft.partitions.storage.log import PartitionLog
from lograft.partitions.storage.promises import Promises
from lograft.partitions.storage.reset import FILE_NAME as RESET
from lograft.partitions.storage.segment_head import SegmentHead
from lograft.proto.errors import NewerFormat

from tests.unit.storage.fakes import (
    CONFIG,
    DATA,
    LOG_DIRECTORY,
    PARTITION,
    FakeDisk,
    FakeEnvironment,
    a_log,
    points_of,
    recovered,
)

MANY = ("T1", *[1] * 12)
PROMISES = f"{DATA}/promises.log"


async def several_segments(disk: FakeDisk) -> PartitionLog:
    log = await a_log(FakeEnvironment(disk), *MANY, config=CONFIG)
    await log.sync()
    return log


def stored(disk: FakeDisk) -> dict[str, bytes]:
    return {path: bytes(inode.cache) for path, inode in disk.names.items()}


def heads(disk: FakeDisk) -> list[str]:
    return sorted(path for path in disk.names if path.endswith(".head"))


def head_of_later_format(content: bytes, version: int = 9) -> bytes:
    """A head as a later version writes it: what says the format has stayed, what it says has not."""
    payload = msgspec.msgpack.encode({"of": "another", "layout": content[:20]})
    prefix = struct.pack(">4sHHI", b"LGHD", version, 0, len(payload))
    return prefix + crc32c.crc32c(payload, crc32c.crc32c(prefix)).to_bytes(4, "big") + payload


def with_later_items(content: bytes) -> bytes:
    """Batches of a magic that is yet to come: to this version they are unreadable."""
    changed = bytearray(content)
    position = 0
    while position < len(changed):
        size = 12 + int.from_bytes(changed[position + 8 : position + 12], "big")
        changed[position + 16] = 3
        changed[position + 30] ^= 0xFF
        position += size
    return bytes(changed)


async def refusal_of_log(disk: FakeDisk, mark: Point, *, same_boot: bool) -> NewerFormat:
    doubts: list[bool] = []
    before = stored(disk)
    with pytest.raises(NewerFormat) as refused:
        await recovered(FakeEnvironment(disk), mark, same_boot=same_boot, config=CONFIG, doubts=doubts)
    assert stored(disk) == before, "nothing is cut, rebuilt or written"
    assert not doubts
    return refused.value


@pytest.mark.parametrize("which", [0, 1, -1])
@pytest.mark.parametrize("same_boot", [True, False])
@pytest.mark.parametrize("is_marked", [True, False])
def test_segment_of_a_later_format_is_no_damage_and_nothing_of_its_log_is_touched(
    which: int, same_boot: bool, is_marked: bool
) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await several_segments(disk)
        end = log.end
        log.close()
        path = heads(disk)[which]
        items = path.removesuffix(".head") + ".log"
        disk.put(path, head_of_later_format(disk.names[path].cache))
        disk.put(items, with_later_items(bytes(disk.names[items].cache)))
        refused = await refusal_of_log(disk, end if is_marked else ORIGIN, same_boot=same_boot)
        assert (refused.facts["file"], refused.facts["found"], refused.facts["known"]) == (path, "9", "1")
        assert refused.message.startswith(f"{path} has format 9, this lograft reads up to 1")
        assert "install the newer lograft again" in refused.message

    asyncio.run(scenario())


def test_log_with_a_hole_before_a_segment_of_a_later_format_is_not_cut_at_the_hole() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await several_segments(disk)
        log.close()
        disk.flip(f"{LOG_DIRECTORY}/{0:020d}.log", 70)
        path = heads(disk)[-1]
        disk.put(path, head_of_later_format(disk.names[path].cache))
        await refusal_of_log(disk, ORIGIN, same_boot=False)

    asyncio.run(scenario())


def test_flipped_bit_in_the_format_of_a_head_is_damage_and_no_later_version() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await several_segments(disk)
        log.close()
        disk.flip(heads(disk)[0], 5)
        _, verdict = await recovered(FakeEnvironment(disk), log.end, same_boot=True, config=CONFIG)
        assert verdict.damage is not None

    asyncio.run(scenario())


def test_head_with_more_fields_at_its_end_is_read() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await several_segments(disk)
        head = log.first_head()
        log.close()
        payload = msgspec.msgpack.encode([*msgspec.msgpack.decode(head.to_bytes()[16:]), "of a later version"])
        prefix = struct.pack(">4sHHI", b"LGHD", 1, 0, len(payload))
        content = prefix + crc32c.crc32c(payload, crc32c.crc32c(prefix)).to_bytes(4, "big") + payload
        assert SegmentHead.from_bytes(content, "path") == head

    asyncio.run(scenario())


def test_reset_of_a_later_format_is_not_taken_for_one_that_was_never_noted() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await several_segments(disk)
        end = log.end
        content = head_of_later_format(log.first_head().to_bytes())
        log.close()
        disk.open(f"{LOG_DIRECTORY}/{RESET}", create=True).write(0, [content])
        refused = await refusal_of_log(disk, end, same_boot=True)
        assert refused.facts["file"] == f"{LOG_DIRECTORY}/{RESET}"

    asyncio.run(scenario())


def of_later_format(content: bytes) -> bytes:
    """The same round, said to be of a later format, in both its copies."""
    changed = bytearray(content)
    for at in range(0, len(changed), promise_frames.BLOCK_BYTES):
        if changed[at : at + 4] == b"LGPR":
            changed[at + 4] = 9
            changed[at + 24 : at + 28] = crc32c.crc32c(bytes(changed[at : at + 24])).to_bytes(4, "big")
    return bytes(changed)


def of_later_frames(number: int) -> bytes:
    """A round of this format whose frames are of a kind that is not known here."""
    body = msgspec.msgpack.encode([[99, "what it says"]])
    copies = []
    for copy in (0, 1):
        header = struct.pack(">4sBBHIQI", b"LGPR", 1, copy, 0, len(body), number, crc32c.crc32c(body))
        whole = header + crc32c.crc32c(header).to_bytes(4, "big") + body
        copies.append(whole + bytes(-len(whole) % promise_frames.BLOCK_BYTES))
    return b"".join(copies)


@pytest.mark.parametrize(
    "later",
    [
        lambda content: of_later_format(content),
        lambda content: content[: 2 * promise_frames.BLOCK_BYTES] + of_later_format(content[8192:]),
        lambda content: content + of_later_frames(len(content) // 8192),
        lambda content: content[:4096] + bytes(4096) + content[8192:] + of_later_frames(len(content) // 8192),
    ],
    ids=["the whole file", "all but its first round", "frames of another kind", "beside a copy that is damaged"],
)
def test_promises_of_a_later_format_are_no_lost_word(later: Callable[[bytes], bytes]) -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        env = FakeEnvironment(disk)
        promises = await Promises.open(env, DATA)
        await promises.sync(promises.note_created(PARTITION, 4))
        await promises.sync(promises.note_start_number(7))
        await several_segments(disk)
        await promises.close()
        disk.put(PROMISES, later(bytes(disk.names[PROMISES].cache)))
        before = stored(disk)
        with pytest.raises(NewerFormat, match="install the newer lograft again") as refused:
            await Promises.open(FakeEnvironment(disk), DATA)
        assert str(refused.value.facts["file"]).startswith(PROMISES)
        assert stored(disk) == before, "no log is set aside, and the file is not written anew"

    asyncio.run(scenario())


def test_index_of_a_later_format_is_built_anew_from_the_segment_and_the_file_is_left_to_that_version() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        log = await several_segments(disk)
        expected = points_of(log)
        log.close()
        indexes = [path for path in disk.names if path.endswith("index")]
        assert indexes
        for path in indexes:
            payload = b"another layout"
            prefix = struct.pack(">4sHH", b"LGIX", sparse_index.FORMAT_VERSION + 1, 0)
            crc = crc32c.crc32c(payload, crc32c.crc32c(prefix)).to_bytes(4, "big")
            disk.put(path, prefix + crc + payload)
        before = stored(disk)
        again, verdict = await recovered(FakeEnvironment(disk), log.end, same_boot=True, config=CONFIG)
        assert verdict.damage is None and points_of(again) == expected
        assert {path: content for path, content in stored(disk).items() if path in indexes} == {
            path: content for path, content in before.items() if path in indexes
        }

    asyncio.run(scenario())
