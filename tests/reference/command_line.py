"""The command line: what each command's --help says."""

from __future__ import annotations

import typer
from lograft.client.cli.contents import COMMANDS
from lograft.client.cli.lazy_commands import Command, Group, LazyGroup, Leaf
from lograft.client.cli.main import TABLE

WIDTH = 100


def page() -> str:
    root = TABLE.load()
    context = typer.Context(root, info_name="lograft", terminal_width=WIDTH, max_content_width=WIDTH)
    listed = "\n".join(_listed(entry, []) for entry in COMMANDS)
    parts = [
        "# The command line\n",
        "What `--help` says, of every command. Exit codes: 0 done, 1 refused or failed (one line says why, and what to do),",
        "2 wrong usage, 130 interrupted, 141 nobody reads the output any more; `cluster health` and `check log` have their",
        "own, told below. Lists and descriptions have `-o json`.\n",
        "How offsets, times and formats are written is told at `consume` and `produce`.\n",
        listed,
        "\n## lograft\n",
        _block(root.get_help(context)),
    ]
    for entry in COMMANDS:
        parts += _told(entry, context, ["lograft"])
    return "\n".join(parts)


def _listed(entry: Command | Group, words: list[str]) -> str:
    name = " ".join(["lograft", *words, entry.name])
    line = f"{'  ' * len(words)}- [`{name}`](#{name.replace(' ', '-')}): {entry.summary}"
    if isinstance(entry, Group):
        return "\n".join([line, *(_listed(below, [*words, entry.name]) for below in entry.table)])
    return line


def _told(entry: Command | Group, parent: typer.Context, words: list[str]) -> list[str]:
    loaded: Leaf | LazyGroup = entry.load()
    context = typer.Context(loaded, info_name=entry.name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH)
    parts = [f"\n## {' '.join([*words, entry.name])}\n", _block(loaded.get_help(context))]
    if isinstance(entry, Group):
        for below in entry.table:
            parts += _told(below, context, [*words, entry.name])
    return parts


def _block(text: str) -> str:
    return "\n".join(["```text", *(line.rstrip() for line in text.rstrip().splitlines()), "```"])
