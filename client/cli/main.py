"""`lograft`: runs one command, of those in `contents`.

Always
    a command is imported when it is used, so that help and wrong usage are answered at once (`lazy_commands`)
    whatever happens, the process ends by one of the exit codes in `endings`
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
import typer.completion
from typer.exceptions import Abort, TyperException

from .completion_command import VARIABLE
from .completions import complete_profile
from .contents import COMMANDS
from .endings import (
    DONE,
    FAILED,
    INTERRUPTED,
    OUTPUT_CLOSED,
    WRONG_USAGE,
    Ended,
    leave_output,
    one_line,
    refusal_of,
    replace_closed_streams,
    say,
    tell_mistake_of_ours,
)
from .lazy_commands import Group


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"lograft {version('lograft')}")
        raise typer.Exit


def lograft(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and stop.")
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="NAME",
            envvar="LOGRAFT_PROFILE",
            help="Use this profile, whichever is in use.",
            autocompletion=complete_profile,
        ),
    ] = None,
) -> None:
    """A replicated log that survives the death of its brokers.

    \b
    Try it:
      lograft up                                     three brokers on this machine
      lograft topic create events                    (in another terminal)
      echo 'hello, log' | lograft produce events
      lograft consume events -o start
      lograft consume events -g billing              share it with others, and go on where you stopped
      lograft kill 1                                 and nothing is lost

    Commands talk to the brokers named by --brokers or LOGRAFT_BROKERS, else to those of the profile in use (`lograft
    profile`), else to the local cluster that `up` started.
    """


TABLE = Group("lograft", "A replicated log that survives the death of its brokers.", COMMANDS, home=lograft)
_app = TABLE.load()


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code. Says why, in one line, if it is not 0."""
    if VARIABLE in os.environ:
        typer.completion.completion_init()  # the shells that it knows; typer leaves it to those who let it add options
    try:
        code = _app.main(args=list(arguments), prog_name="lograft", standalone_mode=False)
        sys.stdout.flush()
    except Ended as ended:
        if ended.exit_code == OUTPUT_CLOSED:
            leave_output()
        return ended.exit_code
    except BrokenPipeError:
        leave_output()
        return OUTPUT_CLOSED
    except TyperException as error:
        return _wrong_usage(error)
    except (KeyboardInterrupt, Abort):
        return INTERRUPTED
    except Exception as error:
        line = refusal_of(error)
        if line is None:
            tell_mistake_of_ours(error)
        else:
            say(f"lograft: {line}")
        try:
            sys.stdout.flush()
        except OSError:
            leave_output()  # it was this that failed, and it would fail once more at the very end
        return FAILED
    return code if isinstance(code, int) else DONE


def _wrong_usage(error: TyperException) -> int:
    context = getattr(error, "ctx", None)
    text = one_line(error.format_message())
    if type(error).__name__ == "NoArgsIsHelpError":
        say(error.format_message())
        return WRONG_USAGE
    where = context.command_path if context is not None else "lograft"
    say(f"{where}: {text.rstrip('.')}; see `{where} --help`")
    return WRONG_USAGE


def run() -> None:
    """The entry point of the `lograft` command."""
    replace_closed_streams()
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
