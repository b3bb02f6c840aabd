"""Commands that are imported when they are used, so that help and wrong usage are answered at once.

Always
    listing commands, for help or for a shell's completion, imports none of them: the table has a summary of each
    a summary is the first sentence of the command's own help (a test compares them)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import typer
import typer.core
import typer.main

from .endings import OUTPUT_CLOSED, Ended

# Rich help is left out: it costs twice the time of all the rest, and cannot be copied from.
_SETTINGS: dict[str, Any] = {
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


class Command(NamedTuple):
    """One command: its name, the function that carries it out, and what is said of it where commands are listed."""

    name: str
    home: str
    """`module:function`, the module in this package."""
    summary: str

    def load(self) -> Any:
        app = typer.Typer(**_SETTINGS)
        app.command(self.name)(_function_at(self.home))
        return typer.main.get_command(app)


class Group(NamedTuple):
    """Commands under one word."""

    name: str
    summary: str
    table: Sequence[Command | Group]
    home: str | Callable[..., None] = ""
    """What the word does before a command of its own, or without one; empty if it only shows what there is."""
    alone: bool = False
    """Does the word mean something without a command?"""

    def load(self) -> LazyGroup:
        app = typer.Typer(
            **_SETTINGS,
            cls=LazyGroup,
            no_args_is_help=not self.alone,
            invoke_without_command=self.alone,
            help=typer.main.Default(None) if self.home else self.summary,
        )
        app.callback()(_function_at(self.home) if self.home else _nothing)
        made = typer.main.get_command(app)
        assert isinstance(made, LazyGroup)
        made.name = self.name
        made.fill(self.table)
        return made


class LazyGroup(typer.core.TyperGroup):
    """Lists commands in the order of its table: what one needs first comes first."""

    def fill(self, table: Sequence[Command | Group]) -> None:
        self._unloaded: dict[str, Command | Group] = {entry.name: entry for entry in table}
        self._listing = False
        for entry in table:
            self.commands[entry.name] = typer.core.TyperCommand(entry.name, help=entry.summary, rich_markup_mode=None)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if not self._listing and (entry := self._unloaded.pop(cmd_name, None)) is not None:
            self.commands[cmd_name] = entry.load()
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with self._by_summary():
            super().format_commands(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        with self._by_summary():
            return super().shell_complete(ctx, incomplete)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # before typer makes an exit code 1 of it
            raise Ended(OUTPUT_CLOSED) from None

    def make_context(self, *args: Any, **rest: Any) -> Any:
        try:
            return super().make_context(*args, **rest)  # writes the help, if that is asked for
        except BrokenPipeError:
            raise Ended(OUTPUT_CLOSED) from None

    @contextmanager
    def _by_summary(self) -> Iterator[None]:
        self._listing = True
        try:
            yield
        finally:
            self._listing = False


def _function_at(home: str | Callable[..., None]) -> Callable[..., None]:
    if callable(home):
        return home
    module, _, name = home.partition(":")
    function: Callable[..., None] = getattr(import_module(f".{module}", __package__), name)
    return function


def _nothing() -> None:
    pass
