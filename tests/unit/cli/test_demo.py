"""The demo's own arithmetic: what it cuts into lines it puts together again, and what is missing it sees."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from lograft.client.cli.demo import Sources, split_lines
from lograft.client.cli.demo_reader import Assembly
from lograft.client.records import Record


def a_record(offset: int, value: bytes, key: bytes = b"a.py") -> Record:
    return Record("stdlib", 0, offset, 0, key, value, (), 1)


@given(st.binary())
def test_the_lines_of_a_file_are_the_file_again(content: bytes) -> None:
    assert b"".join(split_lines(content)) == content


def test_line_endings_of_every_kind_stay_as_they_are() -> None:
    assert split_lines(b"a\r\nb\rc\n\nd") == [b"a\r\n", b"b\rc\n", b"\n", b"d"]


def test_installed_packages_are_not_the_standard_library(tmp_path: Path) -> None:
    for name in ("os.py", "json/decoder.py", "site-packages/other.py", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1\n2")
    sources = Sources(tmp_path)
    assert [file.name for file in sources.files] == ["json/decoder.py", "os.py"]
    assert (sources.lines, sources.size_bytes) == (4, 6)


def test_files_come_out_of_the_log_as_they_went_in() -> None:
    assembly = Assembly()
    assembly.take(0, [a_record(0, b"1\n"), a_record(1, b"x", key=b"b.py"), a_record(2, b"2")])
    assert assembly.digests()["a.py"] == hashlib.sha256(b"1\n2").hexdigest()
    assert (assembly.records, assembly.duplicates, assembly.gaps) == (3, 0, 0)
    assert assembly.has_reached({0: 3})
    assert not assembly.has_reached({0: 4})
    assert not assembly.has_reached({1: 1})


def test_an_offset_seen_twice_and_one_left_out_are_counted() -> None:
    assembly = Assembly()
    assembly.take(0, [a_record(0, b"1\n")])
    assembly.take(0, [a_record(0, b"1\n"), a_record(3, b"4\n")])
    assert (assembly.duplicates, assembly.gaps) == (1, 2)
