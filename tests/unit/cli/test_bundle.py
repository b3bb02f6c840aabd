"""A debug bundle: what never gets in, and what is told where something could not be had."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from lograft.client.cli.bundle import Bundle, add_broker_config, listing, without_secrets
from lograft.client.cli.endings import Refused


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ('secret = "abc"', False),
        ('"secret"="abc"', False),
        ("LOGRAFT_CLUSTER__SECRET=abc", False),
        ('api_key = "abc"', False),
        ('password: "abc"', False),
        ('secret_file = "abc"', True),
        ('data_directory = "abc"', True),
        ("# about abc", True),
    ],
)
def test_a_setting_that_sounds_like_a_secret_is_blanked_and_no_other(line: str, kept: bool) -> None:
    assert ("abc" in without_secrets(line)) == kept


def test_the_secret_of_the_cluster_is_blanked_wherever_it_stands(tmp_path: Path) -> None:
    (tmp_path / "broker.toml").write_text('[cluster]\nsecret_file = "secret"\n[broker]\ndata_directory = "data"\n')
    (tmp_path / "secret").write_text("0123456789abcdef\n")
    bundle = Bundle()
    bundle.add("log.txt", "refused a peer that said 0123456789abcdef\n", "a log")
    bundle.note_missing("something", ValueError("0123456789abcdef is wrong"))
    add_broker_config(bundle, tmp_path / "broker.toml", 0)
    bundle.write(tmp_path / "b.tar.gz")
    with tarfile.open(tmp_path / "b.tar.gz") as archive:
        texts = [archive.extractfile(one).read().decode() for one in archive.getmembers()]  # type: ignore[union-attr]
    assert len(texts) == 4
    assert not [text for text in texts if "0123456789abcdef" in text]
    assert [text for text in texts if "refused a peer that said (removed)" in text]


def test_files_are_listed_by_size_and_name_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "p-0").mkdir()
    unreadable = tmp_path / "p-0" / "00000000000000000000.log"
    unreadable.write_bytes(b"record")
    unreadable.chmod(0)
    assert listing(tmp_path).split()[0] == "6"
    assert listing(tmp_path).rstrip().endswith("p-0/00000000000000000000.log")
    assert listing(tmp_path / "nowhere").startswith("nothing in ")


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "b.tar.gz").write_text("mine")
    with pytest.raises(Refused, match="is there already"):
        Bundle().write(tmp_path / "b.tar.gz")
    assert (tmp_path / "b.tar.gz").read_text() == "mine"
