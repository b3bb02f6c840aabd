"""The demo's own arithmetic: what it cuts into lines it puts together again, and what is missing it sees."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from lograft.client.cli.demo import Sources, split_lines
from lograft.client.cli.demo_ledger import Handled, LedgerWriter, Stored, Taken, read_ledger, settle
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


# What the consumers wrote down


def a_run(*offsets: int, partition: int = 0, key: bytes = b"a.py") -> Handled:
    values = tuple(b"%d\n" % offset for offset in offsets)
    return Handled(partition, offsets, (key,) * len(offsets), values)


def test_a_ledger_reads_as_it_was_written_and_a_frame_cut_short_counts_for_nothing(tmp_path: Path) -> None:
    ledger = LedgerWriter(tmp_path / "ledger")
    ledger.taken({0: 5})
    ledger.handled(0, [a_record(5, b"1\n"), a_record(6, b"2\n")])
    ledger.stored({0: 7})
    taken, handled, stored = read_ledger(tmp_path / "ledger")
    assert isinstance(taken, Taken)
    assert taken.places == {0: 5}
    assert handled == Handled(0, (5, 6), (b"a.py", b"a.py"), (b"1\n", b"2\n"))
    assert isinstance(stored, Stored)
    assert stored.offsets == {0: 7}
    content = (tmp_path / "ledger").read_bytes()
    for length in (len(content) - 1, len(content) - 3):
        (tmp_path / "ledger").write_bytes(content[:length])
        assert len(list(read_ledger(tmp_path / "ledger"))) == 2


def test_files_come_out_of_several_members_ledgers_and_what_was_handled_again_is_counted() -> None:
    dead = [Taken(0.0, {0: 0}), a_run(0, 1), Stored(1.0, {0: 2}), a_run(2, 3)]
    heir = [Taken(5.0, {0: 2}), a_run(2, 3, 4), Stored(6.0, {0: 5})]
    account = settle([dead, heir], {0: 5})
    assert account.files == {"a.py": hashlib.sha256(b"0\n1\n2\n3\n4\n").hexdigest()}
    assert (account.records, account.duplicates, account.unexplained, account.lost) == (5, 2, 0, 0)


def test_what_nobody_handled_is_lost() -> None:
    dead = [Taken(0.0, {0: 0, 1: 0}), a_run(0, 1)]
    heir = [Taken(5.0, {0: 3}), a_run(3)]
    assert settle([dead, heir], {0: 6, 1: 2}).lost == 1 + 2 + 2


def test_a_member_that_begins_before_an_offset_that_was_stored_is_found_out() -> None:
    dead = [Taken(0.0, {0: 0}), a_run(0, 1, 2), Stored(1.0, {0: 3})]
    assert settle([dead, [Taken(5.0, {0: 2}), a_run(2)]], {0: 3}).unexplained == 1
    assert settle([dead, [Taken(0.5, {0: 2}), a_run(2)]], {0: 3}).unexplained == 0, "it was stored only later"


def test_records_handled_twice_by_one_member_or_without_the_partition_are_found_out() -> None:
    assert settle([[Taken(0.0, {0: 0}), a_run(0, 1), a_run(1, 2)]], {0: 3}).unexplained == 1
    assert settle([[a_run(0, 1)]], {0: 2}).unexplained == 2
