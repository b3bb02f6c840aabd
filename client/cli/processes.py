"""Broker processes of this machine: started, told apart, signalled.

Always
    a process is known by its pid and its birth, so a pid that the system has given to somebody else is never signalled
    a dead process that nobody has waited for yet counts as dead
    brokers are started by exec in a session of their own: Ctrl-C in the terminal does not reach them
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class ProcessIdentity(NamedTuple):
    pid: int
    birth: str
    """When it started, in words of the system that no other process with this pid can share."""


def identity_of(pid: int) -> ProcessIdentity | None:
    """Who has this pid now; None if nobody, or only a dead process that has not been waited for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _identity_without_proc(pid)
    state, *fields = stat[stat.rindex(")") + 2 :].split()  # the name before it may hold anything, brackets too
    if state in "ZX":
        return None
    start_ticks = fields[18]
    return ProcessIdentity(pid, f"{boot}:{start_ticks}")


def _identity_without_proc(pid: int) -> ProcessIdentity | None:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return ProcessIdentity(pid, f"{process.create_time():.2f}")
    except psutil.Error:
        return None


def is_alive(identity: ProcessIdentity | None) -> bool:
    return identity is not None and identity_of(identity.pid) == identity


def send_signal(identity: ProcessIdentity, number: signal.Signals) -> bool:
    """Signal exactly this process. False if it is gone, whoever has its pid now."""
    if not is_alive(identity):
        return False
    try:
        os.kill(identity.pid, number)
    except ProcessLookupError:
        return False
    return True


def how_it_ended(identity: ProcessIdentity) -> str | None:
    """`killed by SIGKILL` or `exit code 1`; None for a process that is not our child, or was waited for before."""
    try:
        pid, status = os.waitpid(identity.pid, os.WNOHANG)
    except ChildProcessError:
        return None
    if pid == 0:
        return None
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit code {os.WEXITSTATUS(status)}"


def wait_until_gone(identities: Sequence[ProcessIdentity], timeout_s: float) -> list[ProcessIdentity]:
    """Those that are still there when all are gone, or when the time is over."""
    deadline = time.monotonic() + timeout_s
    while True:
        for identity in identities:  # ours, if we started them: without this they would stay as zombies
            how_it_ended(identity)
        left = [identity for identity in identities if is_alive(identity)]
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(0.02)


def stop_all(identities: Sequence[ProcessIdentity], timeout_s: float) -> list[ProcessIdentity]:
    """Ask all to stop, and kill those that have not after `timeout_s`. Returns those that had to be killed."""
    for identity in identities:
        send_signal(identity, signal.SIGTERM)
    left = wait_until_gone(identities, timeout_s)
    for identity in left:
        send_signal(identity, signal.SIGKILL)
    wait_until_gone(left, 5.0)
    return left


def broker_command(arguments: Sequence[str]) -> list[str]:
    return [*module_command("lograft.node"), *arguments]


def module_command(module: str) -> list[str]:
    """Runs a module of ours in a process of its own."""
    # -P: what lies in the directory we happen to stand in must not be imported in place of the installed package
    return [sys.executable, "-P", "-m", module]


def spawn(
    command: Sequence[str], *, directory: Path, log: Path, environment: Mapping[str, str]
) -> ProcessIdentity | None:
    """Start `command` on its own, its output appended to `log`. None if it was gone before it could be looked at."""
    with log.open("ab") as output:
        # Not kept: who started a broker must not matter, and whoever watches it goes by its identity.
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    process.returncode = 0  # whoever waits for its end does so by pid; keeps Popen from warning that it was dropped
    return identity_of(process.pid)


def last_lines(log: Path, count: int = 8, bytes_max: int = 16384) -> list[str]:
    """The end of a log for people, however long the log is and whatever bytes it holds."""
    try:
        with log.open("rb") as file:
            length = file.seek(0, os.SEEK_END)
            file.seek(max(0, length - bytes_max))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]
