"""`completion`: what a shell needs to complete our commands, options, topics and groups."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from .endings import say

VARIABLE = "_LOGRAFT_COMPLETE"
"""Set by the scripts when they ask us what could follow."""


class Shell(StrEnum):
    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(show_default=False)],
    install: Annotated[
        bool, typer.Option("--install", help="Put it where the shell finds it, instead of printing it.")
    ] = False,
) -> None:
    """Print a script with which a shell completes commands, options, and names of topics, groups and profiles.

    Names of topics and groups are asked of the cluster, for a second and a half at most.

    \b
      eval "$(lograft completion bash)"               for this shell
      lograft completion zsh --install                for every new one
      lograft completion fish > ~/.config/fish/completions/lograft.fish
    """
    import typer.completion as typers

    from .tables import show

    if not install:
        show(typers.get_completion_script(prog_name="lograft", complete_var=VARIABLE, shell=shell.value))
        return
    _, path = typers.install(shell=shell.value, prog_name="lograft", complete_var=VARIABLE)
    say(f"written to {path}; it works in every {shell.value} that is started from now on")
