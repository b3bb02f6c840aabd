"""How a command ends: its exit code, and the one line that says why it was refused.

Always
    0 done, 1 refused or failed, 2 wrong usage, 130 interrupted, 141 nobody reads the output any more; `cluster health`
    alone has more: 3, 4 and 5 say in which way a cluster is not healthy
    a refusal is one line on standard error, "lograft: why; what to do", and never a traceback
    nothing but what was asked for goes to standard output
"""

from __future__ import annotations

import contextlib
import os
import sys

DONE, FAILED, WRONG_USAGE, INTERRUPTED, OUTPUT_CLOSED = 0, 1, 2, 130, 141


class Refused(Exception):
    """A command cannot do what it was asked. `why` is the fact, `remedy` what the user can do about it."""

    def __init__(self, why: str, remedy: str | None = None) -> None:
        super().__init__(f"{why}; {remedy}" if remedy else why)


class Ended(Exception):
    """The command is over, has said all it had to say, and ends with this exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def one_line(text: str) -> str:
    """The text in one line, as it reads after "lograft: "."""
    line = " ".join(text.split())
    first = line.partition(" ")[0]
    return line[:1].lower() + line[1:] if first.istitle() and first.isalpha() else line


def say(text: str) -> None:
    """A line for the person at the terminal; standard output is kept for what was asked for."""
    with contextlib.suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)


def refusal_of(error: BaseException) -> str | None:
    """The line that tells of `error`, or None if it is a mistake of ours and no answer to the user."""
    from ...proto.errors import LograftError

    if isinstance(error, Refused | LograftError):
        return one_line(str(error)) or type(error).__name__
    if isinstance(
        error, PermissionError | FileNotFoundError | IsADirectoryError | NotADirectoryError | FileExistsError
    ):
        return f"{error.filename}: {error.strerror}" if error.filename else one_line(str(error))
    if isinstance(error, OSError):
        return one_line(str(error))
    if isinstance(error, TimeoutError):
        return one_line(str(error)) or "timed out; is the cluster healthy? see `lograft cluster health`"
    return None


def replace_closed_streams() -> None:
    """Whoever started us may have closed a standard stream, and Python then has None for it.

    What stands in for it fails when it is used, but for standard error, which nobody reads. No socket gets its number.
    """
    for number, (name, flags) in enumerate((("stdin", os.O_WRONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY))):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, flags)  # the lowest number that is free: its own
            setattr(sys, name, os.fdopen(descriptor, "w" if number else "r", closefd=False))


def leave_output() -> None:
    """Nobody reads our output any more: let the interpreter's last flush go nowhere instead of complaining."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())


def tell_mistake_of_ours(error: BaseException) -> None:
    """Report an error that no command should let out. The trace is for those who ask for it."""
    if os.environ.get("LOGRAFT_DEBUG"):
        raise error
    say(f"lograft: {type(error).__name__}: {one_line(str(error))}; this is a defect, LOGRAFT_DEBUG=1 shows where")
