"""The kit itself: a proxy that keeps order, a disk that forgets what was not synced, a first look that sees."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from lograft.client.check.history import Recorder
from lograft.client.check.verdict import judge
from lograft.proto.errors import InvalidRequest

from tests.ports import free_ports

from . import __main__ as command
from . import tools
from .disks import Disk
from .faults import restore_order
from .first_look import FirstLook
from .proxy import CLIENTS, Proxies
from .referee import Referee

volatile = pytest.mark.skipif(tools.missing("fuse") is not None, reason=f"no volatile disk: {tools.missing('fuse')}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path, "b0", "volatile")
    disk.mount()
    yield disk
    asyncio.run(disk.unmount())


def put(path: Path, content: bytes, *, sync: bool, at: int = 0) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(descriptor, content, at)
    if sync:
        os.fdatasync(descriptor)
    os.close(descriptor)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


SEED_THAT_LOSES_ALL = next(seed for seed in range(100) if random.Random(seed).choice([0.0, 0.0, 0.3, 0.7]) == 0.0)


@volatile
def test_disk_forgets_bytes_that_were_not_synced_and_keeps_those_that_were(disk: Disk) -> None:
    put(disk.path / "a", b"kept " * 2000, sync=True)
    sync_directory(disk.path)
    put(disk.path / "a", b"lost " * 2000, sync=False, at=10_000)
    put(disk.path / "a", b"overwritten", sync=False)
    assert (disk.path / "a").read_bytes().startswith(b"overwritten"), "until power fails it is there"
    boot = disk.boot_id_path.read_text()
    disk.lose_power(SEED_THAT_LOSES_ALL)
    assert (disk.path / "a").read_bytes() == b"kept " * 2000
    assert disk.boot_id_path.read_text() != boot


@volatile
def test_disk_forgets_names_whose_directory_was_not_synced(disk: Disk) -> None:
    put(disk.path / "old", b"1", sync=True)
    put(disk.path / "gone", b"2", sync=True)
    sync_directory(disk.path)
    put(disk.path / "fresh", b"3", sync=True)
    os.rename(disk.path / "old", disk.path / "new")
    os.unlink(disk.path / "gone")
    os.makedirs(disk.path / "deep" / "er")
    put(disk.path / "deep" / "er" / "file", b"4", sync=True)
    sync_directory(disk.path / "deep" / "er")
    disk.lose_power(SEED_THAT_LOSES_ALL)
    assert sorted(os.listdir(disk.path)) == ["gone", "old"]
    assert (disk.path / "gone").read_bytes() == b"2" and (disk.path / "old").read_bytes() == b"1"


@volatile
def test_disk_brings_back_what_a_truncation_that_was_not_synced_cut_off(disk: Disk) -> None:
    put(disk.path / "a", b"0123456789" * 1000, sync=True)
    sync_directory(disk.path)
    os.truncate(disk.path / "a", 5)
    put(disk.path / "a", b"new", sync=False, at=5)
    disk.lose_power(SEED_THAT_LOSES_ALL)
    assert (disk.path / "a").read_bytes() == b"0123456789" * 1000


@volatile
def test_disk_forgets_what_a_sync_that_has_not_ended_was_about(disk: Disk) -> None:
    put(disk.path / "a", b"old", sync=True)
    sync_directory(disk.path)
    disk.ask(do="trouble", sync_s=1.0)
    with ThreadPoolExecutor(1) as threads:
        syncing = threads.submit(put, disk.path / "a", b"new", sync=True)
        while (disk.path / "a").read_bytes() != b"new":
            time.sleep(0.01)
        disk.lose_power(SEED_THAT_LOSES_ALL)
        assert (disk.path / "a").read_bytes() == b"old"
        syncing.result()


@volatile
def test_disk_fails_syncs_when_told(disk: Disk) -> None:
    disk.ask(do="trouble", sync_error=True)
    with pytest.raises(OSError):
        put(disk.path / "a", b"1", sync=True)


@volatile
def test_disk_whose_last_page_is_taken_while_it_is_filled_is_full_all_the_same(disk: Disk) -> None:
    page, chunk = 4096, 1 << 20
    free = shutil.disk_usage(disk.medium).free
    put(disk.medium / "padding", bytes((free + page) % chunk), sync=True)
    disk.fill(-page)
    with pytest.raises(OSError, match="No space left"):
        put(disk.medium / "a", b"1", sync=True)
    disk.relieve()
    put(disk.medium / "b", b"1", sync=True)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100_000):
        writer.write(data)
    writer.close()


def test_proxy_holds_back_what_is_sent_over_a_cut_wire_and_delivers_it_in_order_once_mended() -> None:
    async def play() -> None:
        proxies = Proxies(random.Random(1))
        port, to_port = free_ports(2)
        server = await asyncio.start_server(_echo, "127.0.0.1", to_port)
        await proxies.lead(port, to_port, "b0", is_peer=False)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        proxies.wire(CLIENTS, "b0").jitter_s = 0.01
        sent = b"".join(b"%6d" % number for number in range(20_000))
        writer.write(sent[:60_000])
        assert await reader.readexactly(60_000) == sent[:60_000]
        proxies.cut("b0", CLIENTS)
        writer.write(sent[60_000:])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.readexactly(1)
        proxies.mend()
        assert await reader.readexactly(60_000) == sent[60_000:]
        (connection,) = proxies.between(CLIENTS, "b0")
        connection.reset()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        server.close()
        await proxies.close()

    asyncio.run(play())


def history(path: Path, *events: dict[str, object]) -> Path:
    lines: list[dict[str, object]] = [{"lograft_history": 1}]
    lines += [{"t": float(t), "process": "p", "op": t, **event} for t, event in enumerate(events)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def sent(op: int, value: str, offset: int) -> list[dict[str, object]]:
    return [
        {"op": op, "f": "send", "type": "invoke", "topic": "t", "values": [value]},
        {"op": op, "f": "send", "type": "ok", "partition": 0, "offsets": [offset]},
    ]


def read_back(*values: tuple[int, str]) -> dict[str, object]:
    return {"f": "read_all", "type": "ok", "partition": "t/0", "values": list(values)}


def test_first_look_finds_nothing_wrong_where_all_is_there(tmp_path: Path) -> None:
    look = FirstLook([history(tmp_path / "h", *sent(1, "a", 0), *sent(2, "b", 1), read_back((0, "a"), (1, "b")))])
    assert not look.wrong and look.acknowledged == 2


@pytest.mark.parametrize(
    "values",
    [[(0, "a")], [(0, "a"), (1, "c")], [(0, "a"), (1, "b"), (2, "a")]],
    ids=["lost", "another in its place", "twice"],
)
def test_first_look_finds_an_acknowledged_record_that_is(tmp_path: Path, values: list[tuple[int, str]]) -> None:
    assert FirstLook([history(tmp_path / "h", *sent(1, "a", 0), *sent(2, "b", 1), read_back(*values))]).wrong


def test_what_no_client_got_done_is_named_and_the_probes_of_the_referee_do_not_count(tmp_path: Path) -> None:
    probes = history(tmp_path / "referee.jsonl", *sent(1, "probe", 0), read_back((0, "probe")))
    silent = {"f": "poll", "type": "ok", "records": []}
    assert FirstLook([probes, history(tmp_path / "h", silent)]).idle == ["send", "poll", "own", "store"]
    assert FirstLook([probes, history(tmp_path / "h", *sent(1, "a", 1))]).idle == ["poll", "own", "store"]


@pytest.mark.parametrize(("committed", "holds"), [(4, "empty"), (4, "gone"), (0, "empty")])
def test_a_replica_that_holds_nothing_is_noted_as_that_and_wrong_if_anything_is_committed(
    tmp_path: Path, committed: int, holds: str
) -> None:
    directory = tmp_path / "id-0"
    if holds == "empty":
        directory.mkdir()
    with (tmp_path / "history.jsonl").open("w") as file:
        referee = Referee(SimpleNamespace(cluster=None), Recorder(file, time.monotonic), tmp_path)  # type: ignore[arg-type]
        for broker_id in (0, 1):
            referee.note_replica("t/0", broker_id, directory, committed)
    noted = judge([tmp_path / "history.jsonl"])
    assert noted.rows["replica-divergence"].judged == 1, "it takes part in the comparison"
    assert len(referee.verdict.wrong) == (2 if committed else 0)


def test_order_is_not_restored_by_the_answer_that_a_move_to_elsewhere_is_under_way() -> None:
    placed, asked = [0, 1], []

    async def move_partition(topic: str, partition: int, brokers: list[int]) -> None:
        asked.append(brokers)
        if len(asked) < 3:
            raise InvalidRequest(f"partition {partition} of {topic!r} is being moved already")
        placed[:] = brokers
        raise InvalidRequest("it is there already")  # the answer of a call that was made before, and got none

    async def describe_topic(name: str) -> SimpleNamespace:
        replicas = [SimpleNamespace(broker_id=broker_id, leaving=broker_id not in placed) for broker_id in range(3)]
        return SimpleNamespace(partitions=[SimpleNamespace(replicas=replicas)])

    async def undrain_broker(broker_id: int) -> None: ...

    admin = SimpleNamespace(move_partition=move_partition, describe_topic=describe_topic, undrain_broker=undrain_broker)
    scene = SimpleNamespace(
        is_out_of_order=True,
        cluster=SimpleNamespace(brokers=[SimpleNamespace(broker_id=broker_id) for broker_id in range(3)]),
        topics={"t": 1},
        client=SimpleNamespace(admin=admin),
    )
    asyncio.run(restore_order(scene))  # type: ignore[arg-type]
    assert asked == [[0, 1, 2]] * 3
    assert not scene.is_out_of_order


def test_first_look_finds_a_record_that_was_read_and_is_there_no_more(tmp_path: Path) -> None:
    polled = {"f": "poll", "type": "ok", "records": [["t/0", 1, "ghost", 3]]}
    assert FirstLook([history(tmp_path / "h", *sent(1, "a", 0), polled, read_back((0, "a")))]).wrong


def test_power_failures_that_cannot_be_had_here_end_with_a_code_of_their_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["chaos", "power"])
    monkeypatch.setattr(tools, "missing", lambda tool: "/dev/fuse is not there")
    assert command.main() == tools.NOTHING_SHOWN
    assert "NOT DONE, nothing is shown" in capsys.readouterr().err
