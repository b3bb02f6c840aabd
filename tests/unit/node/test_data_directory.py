from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from lograft.node.data_directory import FORMAT, DataDirectory, raise_open_files_limit
from lograft.proto.errors import InvalidConfig


def refusal(path: Path, broker_id: int = 1) -> str:
    with pytest.raises(InvalidConfig) as refused:
        DataDirectory.claim(path, broker_id)
    line = str(refused.value)
    assert "\n" not in line, "one line"
    return line


def test_directory_is_made_and_claimed_again_after_its_release(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    for _ in range(2):
        with DataDirectory.claim(path, 1) as claimed:
            assert claimed.path == path
            assert (path / "lock").read_text() == f"{os.getpid()}\n"
    assert sorted(name.name for name in path.iterdir()) == ["format", "lock"]


def test_name_of_the_directory_and_of_all_made_above_it_is_durable_before_anything_is_written_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    right = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        right(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    DataDirectory.claim(tmp_path / "a" / "b", 1).release()
    made_in = [tmp_path.stat().st_ino, (tmp_path / "a").stat().st_ino]
    assert sorted(synced[:2]) == sorted(made_in), "a power failure would take the whole directory, votes and records"
    synced.clear()
    DataDirectory.claim(tmp_path / "a" / "b", 1).release()
    assert made_in[1] in synced, "whoever made it may have died before that"


def test_directory_in_use_is_refused_with_the_process_that_uses_it(tmp_path: Path) -> None:
    with DataDirectory.claim(tmp_path, 1):
        line = refusal(tmp_path)
        assert f"in use by process {os.getpid()}" in line and "broker.data_directory" in line
    DataDirectory.claim(tmp_path, 1).release()


def test_lock_of_a_killed_process_is_gone_with_it(tmp_path: Path) -> None:
    claim_and_die = (
        "import os, sys; from lograft.node.data_directory import DataDirectory; "
        "kept = DataDirectory.claim(sys.argv[1], 1); print('claimed', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", claim_and_die, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None and process.stdout.readline() == "claimed\n"
        assert f"in use by process {process.pid}" in refusal(tmp_path)
        process.kill()
    DataDirectory.claim(tmp_path, 1).release()


def test_directory_of_another_broker_is_refused_and_both_are_named(tmp_path: Path) -> None:
    DataDirectory.claim(tmp_path, 1).release()
    assert "belongs to broker 1, and this is broker 2" in refusal(tmp_path, broker_id=2)
    DataDirectory.claim(tmp_path, 1).release()


def test_newer_format_is_refused_whatever_else_its_file_says(tmp_path: Path) -> None:
    (tmp_path / "format").write_text(f'{{"format":{FORMAT + 1},"owner":{{"id":1}}}}')
    assert f"has format {FORMAT + 1}, this lograft reads up to {FORMAT}" in refusal(tmp_path)


def test_field_that_a_later_version_added_without_raising_the_format_is_passed_over(tmp_path: Path) -> None:
    text = f'{{"format":{FORMAT},"broker_id":1,"made_by":"0.9.0"}}'
    (tmp_path / "format").write_text(text)
    DataDirectory.claim(tmp_path, 1).release()
    assert (tmp_path / "format").read_text() == text


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format":"1"}', '{"format":1}', "\xff"])
def test_unreadable_format_is_refused_with_what_should_be_there(tmp_path: Path, text: str) -> None:
    (tmp_path / "format").write_bytes(text.encode("latin-1"))
    line = refusal(tmp_path)
    assert "is unreadable" in line
    (tmp_path / "format").write_text(line.rpartition(": ")[2])
    DataDirectory.claim(tmp_path, 1).release()


@pytest.mark.parametrize("stored", ["promises.log", "partitions"])
def test_logs_without_a_format_file_are_nobodys(tmp_path: Path, stored: str) -> None:
    (tmp_path / stored).mkdir()
    line = refusal(tmp_path)
    assert "is missing beside stored logs" in line
    (tmp_path / "format").write_text(line.rpartition(": ")[2])
    DataDirectory.claim(tmp_path, 1).release()


@pytest.mark.parametrize(
    "name", ["lock", "format", "promises.log", "partitions", "partitions/x-0", "partitions/x-0/0.log"]
)
def test_symbolic_link_anywhere_inside_is_refused_and_named(tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = tmp_path / "data"
    DataDirectory.claim(path, 1).release()
    link = path / name
    link.unlink(missing_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere)
    assert f"{link} is a symbolic link" in refusal(path)
    link.unlink()
    DataDirectory.claim(path, 1).release()


def test_data_directory_may_itself_be_reached_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    DataDirectory.claim(tmp_path / "data", 1).release()
    assert (tmp_path / "disk" / "format").exists()


def test_path_that_is_no_directory_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        line = refusal(path)
        assert str(tmp_path / "file") in line and "set broker.data_directory" in line


def test_limit_of_open_files_is_raised_as_far_as_it_goes() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        limit = raise_open_files_limit()
        assert limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(soft, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_directory_of_which_a_newer_copy_has_run_is_not_used_again(tmp_path: Path) -> None:
    with DataDirectory.claim(tmp_path, 1) as claimed:
        claimed.check_not_superseded("d1", 5)
        claimed.note_superseded("d1", 6, "superseded by its start 7")
    with DataDirectory.claim(tmp_path, 1) as claimed:
        with pytest.raises(InvalidConfig, match=r"older copy .superseded by its start 7.*delete this one"):
            claimed.check_not_superseded("d1", 6)
        claimed.check_not_superseded("d1", 7)  # the later process ran in this very directory, on a disk that both saw
        claimed.check_not_superseded("d2", 0)  # its word is lost: what runs here is somebody else


def test_a_note_of_a_newer_copy_that_cannot_be_read_stops_the_start_too(tmp_path: Path) -> None:
    (tmp_path / "superseded").write_text("{")
    with DataDirectory.claim(tmp_path, 1) as claimed, pytest.raises(InvalidConfig, match="unreadable"):
        claimed.check_not_superseded("d1", 6)


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="no such file system here")
def test_data_directory_may_lie_where_the_file_system_above_it_syncs_no_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As squashfs, erofs, autofs and proc do, on which its own file system may be mounted."""
    monkeypatch.chdir(tmp_path)
    DataDirectory.claim("/proc/self/cwd", 1).release()
    assert (tmp_path / "format").exists()
