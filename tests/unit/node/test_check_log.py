"""`lograft check log` on real files: what it says of a directory, its exit codes, and that it never writes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from lograft.node.check_log import main
from lograft.node.data_directory import DataDirectory
from lograft.partitions.raft.messages import Voter
from lograft.partitions.real_environment import RealEnvironment
from lograft.partitions.storage.log import PartitionLog
from lograft.partitions.storage.promises import Promises
from lograft.proto.errors import InvalidConfig

from tests.unit.storage.fakes import CONFIG, PARTITION, items_of

SHAPES = ("T1", 3, 2, 4, "T2", 1, 5, 2, 2, 6)


def a_directory(path: Path, broker_id: int, *shapes: Any) -> Path:
    """Of a broker that has stopped cleanly, with one replica."""

    async def fill() -> None:
        environment = RealEnvironment(str(path))
        promises = await Promises.open(environment, str(path))
        voters = tuple(
            Voter(other, promises.directory_id if other == broker_id else f"d{other}", 1) for other in range(3)
        )
        log = await PartitionLog.create(environment, str(path), PARTITION, voters, CONFIG)
        await promises.sync(promises.note_created(PARTITION, 1))
        await promises.sync(promises.note_vote(PARTITION, 9, None))
        for item in items_of(log.end, *shapes):
            log.append([item], 5)
        await log.sync()
        promises.raise_mark(PARTITION, log.end)
        await promises.close()
        log.close()
        environment.disk.stop()

    with DataDirectory.claim(path, broker_id):
        asyncio.run(fill())
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return a_directory(tmp_path / "data", 7, *SHAPES)


def logs(directory: Path, suffix: str = ".log") -> list[Path]:
    return sorted(directory.glob(f"partitions/*/*{suffix}"))


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)


def everything(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.rglob("*") if path.is_file()}


def checked(capsys: pytest.CaptureFixture[str], *arguments: object, exit_code: int) -> str:
    assert main([str(argument) for argument in arguments]) == exit_code
    return capsys.readouterr().out


def test_a_clean_directory_is_told_so_and_nothing_in_it_is_touched(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(directory)
    told = checked(capsys, directory, exit_code=0)
    assert "clean: no finding" in told and "1 directory, 1 partition, 1 replica, 25 records" in told
    assert everything(directory) == before


def test_damage_is_told_with_file_position_offsets_and_remedy(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = logs(directory)[1]
    flip(path, 70)
    before = everything(directory)
    told = checked(capsys, directory, exit_code=1)
    assert f"on broker 7: {path} at 0: unreadable behind" in told
    assert "(offsets from 5 to 8)" in told and "the replica repairs itself from them" in told
    assert "NOT clean: 1 damage" in told
    assert everything(directory) == before


def test_json_names_directories_partitions_replicas_and_findings(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = logs(directory)[1]
    flip(path, 70)
    told = json.loads(checked(capsys, "-o", "json", directory, exit_code=1))
    assert told["verdict"] == "not clean"
    (one,) = told["directories"]
    assert (one["path"], one["broker_id"], one["running"]) == (str(directory), 7, False)
    (replica,) = told["partitions"][0]["replicas"]
    (finding,) = replica["findings"]
    assert (finding["level"], finding["path"], finding["position"]) == ("damage", str(path), 0)
    assert replica["mark"] == [2, 25, 1] and not replica["clean"]


def test_copies_of_one_directory_are_told_apart_from_replicas(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(directory, tmp_path / "copy")
    told = checked(capsys, directory, tmp_path / "copy", exit_code=1)
    assert f"it has the directory id of {directory}" in told


def test_replicas_that_differ_are_told_with_offset_and_term(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directories = [a_directory(tmp_path / str(number), number, *SHAPES) for number in range(2)]
    assert "the replicas of 1 partition were compared" in checked(capsys, *directories, exit_code=0)
    third = a_directory(tmp_path / "2", 2, "T1", 3, 1, 1, 4, "T2", 1, 5, 2, 2, 6)
    told = checked(capsys, *directories, third, exit_code=1)
    assert "difference: " in told and "of term 1 behind 3@1.1: broker 0, broker 1 differ from broker 2" in told


def test_replicas_that_differ_are_found_while_their_brokers_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = a_directory(tmp_path / "0", 0, *SHAPES)
    other = a_directory(tmp_path / "1", 1, "T1", 3, 1, 1, 4, "T2", 1)
    with DataDirectory.claim(one, 0), DataDirectory.claim(other, 1):
        told = checked(capsys, "--live", one, other, exit_code=1)
    assert "difference: " in told and "behind 3@1.1" in told


def test_what_is_no_data_directory_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "nowhere", tmp_path / "file", tmp_path / "empty"):
        assert main([str(path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"lograft: {path} ")


def test_a_directory_in_use_is_refused_and_read_live_only_if_asked_to(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with DataDirectory.claim(directory, 7):
        assert main([str(directory)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"in use by process {os.getpid()}" in line and "--live" in line
        told = checked(capsys, "--live", directory, exit_code=0)
        assert "clean as far as it can be told while brokers run" in told
        flip(logs(directory)[1], 70)
        assert "1 damage" in checked(capsys, "--live", directory, exit_code=1)


def test_what_stands_past_the_mark_of_a_running_broker_is_not_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = a_directory(tmp_path / "data", 7, *SHAPES)
    with logs(directory)[-1].open("ab") as file:
        file.write(b"half of an item")
    with DataDirectory.claim(directory, 7):
        checked(capsys, "--live", directory, exit_code=0)
    assert "15 bytes past the mark" in checked(capsys, directory, exit_code=0)


def test_no_broker_starts_on_a_directory_while_it_is_checked(directory: Path) -> None:
    from lograft.node.stored_directory import StoredDirectory

    checking = StoredDirectory(directory)
    try:
        with pytest.raises(InvalidConfig, match="is being checked by `lograft check log`"):
            DataDirectory.claim(directory, 7)
    finally:
        checking.close()
    DataDirectory.claim(directory, 7).release()


def test_a_listed_replica_that_is_gone_and_one_that_is_not_listed_are_told(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partition = next((directory / "partitions").iterdir())
    partition.rename(partition.with_name("f" * 32 + "-1"))
    told = checked(capsys, directory, exit_code=1)
    assert "the replica is listed, but its directory is missing" in told
    assert "no such replica is listed" in told


def test_a_lost_word_a_later_format_a_link_and_strangers_are_told(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "notes.txt").write_text("x")
    assert "notes.txt: it does not belong there" in checked(capsys, directory, exit_code=0)
    (directory / "link").symlink_to(directory / "notes.txt")
    assert "symbolic link" in checked(capsys, directory, exit_code=1)
    (directory / "link").unlink()
    (directory / "promises.log").rename(directory / "elsewhere")
    assert "the broker's word is lost: it is missing" in checked(capsys, directory, exit_code=1)
    (directory / "elsewhere").rename(directory / "promises.log")
    (directory / "format").write_text('{"format":99}')
    assert "unjudged: " in checked(capsys, directory, exit_code=1)
    (directory / "format").write_text("\0\0")
    assert "it is unreadable" in checked(capsys, directory, exit_code=1)


def test_every_flipped_byte_of_every_file_is_found_or_noted_and_never_ends_in_a_trace(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [path for path in directory.rglob("*") if path.is_file() and path.name != "lock"]
    for path in paths:
        size = path.stat().st_size
        for at in range(0, size, max(size // 12, 1)):
            flip(path, at)
            told = main(["-o", "json", str(directory)]), json.loads(capsys.readouterr().out)
            flip(path, at)
            findings = [
                finding
                for one in (*told[1]["directories"], *(r for p in told[1]["partitions"] for r in p["replicas"]))
                for finding in one["findings"]
            ]
            if path.suffix in (".log", ".head") and path.name != "promises.log":
                assert told[0] == 1 and findings, (path, at)
            elif path.name != "format":
                assert findings, (path, at)
