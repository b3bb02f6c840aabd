"""What help and completion import, and whether the table of commands says what the commands say."""

from __future__ import annotations

import subprocess
import sys

import pytest
from lograft.client.cli.lazy_commands import Command, Group, LazyGroup
from lograft.client.cli.main import TABLE, main

HEAVY = ["asyncio", "grpc", "google.protobuf", "rich", "ssl", "msgspec", "structlog", "psutil", "uvloop", "aiokafka"]
"""What costs more than some milliseconds, and has nothing to do with help."""


def entries(table: Group) -> list[tuple[str, Command | Group]]:
    found: list[tuple[str, Command | Group]] = []
    for entry in table.table:
        found.append((entry.name, entry))
        if isinstance(entry, Group):
            found += [(f"{entry.name} {name}", below) for name, below in entries(entry)]
    return found


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"], [], ["tpoic"], ["topic"]])
def test_help_and_wrong_usage_import_nothing_heavy_and_no_command(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom lograft.client.cli.main import main\n"
        f"main({arguments!r})\nprint(*sorted(sys.modules), sep='\\n', file=open(3, 'w'))"
    )
    command = f'exec {sys.executable} -c "$0" 3>&1 1>/dev/null 2>/dev/null'
    told = subprocess.run(["sh", "-c", command, code], capture_output=True, text=True, check=True).stdout.split()
    assert "lograft.client.cli.main" in told
    assert not [name for name in HEAVY if name in told]
    assert [name for name in told if name.endswith("_commands")] == ["lograft.client.cli.lazy_commands"]


@pytest.mark.parametrize(("words", "entry"), entries(TABLE), ids=[words for words, _ in entries(TABLE)])
def test_the_table_says_of_a_command_what_its_own_help_says_first(words: str, entry: Command | Group) -> None:
    loaded = entry.load()
    assert loaded.name == entry.name == words.split()[-1]
    assert loaded.get_short_help_str(limit=1000) == entry.summary.rstrip(".") + "."
    assert isinstance(loaded, LazyGroup) == isinstance(entry, Group)


def test_a_mistyped_command_is_answered_with_the_one_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tpoic", "list"]) == 2
    assert "Did you mean 'topic'" in capsys.readouterr().err
