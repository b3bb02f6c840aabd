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

    def load(self) -> Leaf:
        app = typer.Typer(**_SETTINGS)
        app.command(self.name, cls=Leaf)(_function_at(self.home))
        made = typer.main.get_command(app)
        assert isinstance(made, Leaf)
        return made


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


class Leaf(typer.core.TyperCommand):
    """A command that does something. What it is not told, the profile in use may say."""

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        profile = None
        if parent is not None and parent.info_name != "profile":  # these must work also where the one in use is gone
            from .profiles import chosen

            profile = chosen(parent.find_root().params.get("profile"))
        if profile is not None:
            words = f"{parent.command_path} {info_name}".split()[1:]
            said = {option: profile.default_of(" ".join(words), option) for option in self.settable_options()}
            told = {self._option(option).name: value for option, value in said.items() if value is not None}
            extra["default_map"] = {**told, **self._where_to_find(profile.brokers)}
        return super().make_context(info_name, args, parent, **extra)

    def settable_options(self) -> list[str]:
        """Those a profile can have a default of, by their long names: whatever is given once, and does not confirm."""
        return [
            name.removeprefix("--")
            for param in self.params
            if not getattr(param, "multiple", False)
            for name in param.opts
            if name.startswith("--") and name not in ("--brokers", "--yes", "--accept-loss", "--fresh", "--data")
        ]

    def check_option(self, option: str, value: str) -> None:
        """Raises BadParameter unless the option takes this value."""
        param = self._option(option)
        context = typer.Context(self, info_name=self.name)
        try:
            param.process_value(context, value)
        except typer.BadParameter as error:
            why = error.message.removeprefix("Value error, ")
            raise typer.BadParameter(f"{option} cannot be {value[:80]!r}: {why}", param_hint="--set") from None

    def _option(self, option: str) -> Any:
        return next(param for param in self.params if f"--{option}" in param.opts)

    def _where_to_find(self, brokers: Sequence[str]) -> dict[str, str]:
        """For a command that talks to a cluster: it has a --brokers that the environment can say too."""
        return {
            str(param.name): ",".join(brokers)
            for param in self.params
            if "--brokers" in param.opts and getattr(param, "envvar", None)
        }


def leaves(table: Sequence[Command | Group], words: Sequence[str] = ()) -> Iterator[tuple[list[str], Leaf]]:
    """Every command below `table`, loaded, with the words by which it is called."""
    for entry in table:
        path = [*words, entry.name]
        if isinstance(entry, Group):
            yield from leaves(entry.table, path)
        else:
            yield path, entry.load()


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
