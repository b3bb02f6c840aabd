"""Servers and tools as child processes that never outlive the comparison.

Invariants
    whatever was started in `Servers` is gone once its `with` is left, however it is left
    a child hears when the comparison itself is killed (on Linux): it gets SIGTERM then
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

import psutil

ROOT = Path(__file__).parents[3]
_WITH_PARENT = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM); os.execvp(sys.argv[1], sys.argv[1:])"
)
"""Asks Linux for SIGTERM when the parent dies (PR_SET_PDEATHSIG), then becomes the command."""


_COLOUR = re.compile(r"\x1b\[[\d;]*m")


class CannotBeHad(Exception):
    """A system that cannot be run here, and why. It is named and left out; the others run."""


class Failed(Exception):
    """A server or a tool did not do what it was asked."""


def _with_parent(command: Sequence[str]) -> list[str]:
    """By a program in between: code between fork and exec is not safe here, as gRPC and librdkafka have threads."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _WITH_PARENT, *command]


class Servers:
    """The servers of one system, each in a process group of its own so that Ctrl-C reaches them by us alone."""

    def __init__(self, stop_seconds: float = 15.0) -> None:
        self._stop_seconds = stop_seconds
        self._running: list[tuple[str, subprocess.Popen[bytes], Path]] = []

    def __enter__(self) -> Servers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(
        self, name: str, command: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                _with_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=ROOT,
                start_new_session=True,
            )
        self._running.append((name, process, log))

    def wait_until(self, what: str, ready: Callable[[], bool], *, seconds: float) -> None:
        """Until `ready` says so. A server that ends meanwhile is a failure, and so is time running out."""
        deadline = time.monotonic() + seconds
        while True:
            self.check()
            if ready():
                return
            if time.monotonic() > deadline:
                raise Failed(f"{what}: not within {seconds:g} s; {self._last_words()}")
            time.sleep(0.2)

    def check(self) -> None:
        for name, process, log in self._running:
            if process.poll() is not None:
                raise Failed(f"{name} ended with {process.returncode}: {last_line(log)}")

    def cpu_seconds(self) -> float:
        """What these servers have used so far, with all that they started."""
        total = 0.0
        for _, process, _ in self._running:
            with suppress(psutil.Error):
                root = psutil.Process(process.pid)
                for each in (root, *root.children(recursive=True)):
                    with suppress(psutil.Error):
                        total += sum(each.cpu_times()[:2])
        return total

    def stop(self) -> None:
        """Ask all of them to end, then make them, and whatever they started."""
        groups = []
        for _, process, _ in self._running:
            with suppress(psutil.Error):
                groups += [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + self._stop_seconds
        try:
            for _, process, _ in self._running:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.1, deadline - time.monotonic()))
        finally:
            for _, process, _ in self._running:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            for pid in groups:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self._running.clear()

    def _last_words(self) -> str:
        return "; ".join(f"{name}: {last_line(log)}" for name, _, log in self._running)


def last_line(log: Path) -> str:
    try:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return "said nothing"
    return lines[-1][-300:] if lines else "said nothing"


@contextmanager
def child(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process that is gone, with all of its group, once the `with` is left."""
    process = subprocess.Popen(
        _with_parent(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def finish(process: subprocess.Popen[str], what: str, *, seconds: float) -> str:
    """What it printed, once it has ended well."""
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Failed(f"{what}: not done within {seconds:g} s") from None
    if process.returncode:
        raise Failed(f"{what} ended with {process.returncode}: {_why(errors) or _why(output) or 'said nothing'}")
    return output


def _why(said: str) -> str:
    """The line that says most: Maven's first error, else the last line, as of a traceback."""
    lines = [line.strip() for line in _COLOUR.sub("", said).splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("[ERROR] ")), lines[-1] if lines else "")[:400]


def run(
    command: Sequence[str], what: str, *, seconds: float = 120, environment: Mapping[str, str] | None = None
) -> str:
    """Run a tool to its end; its standard output."""
    with child(command, environment=environment) as process:
        return finish(process, what, seconds=seconds)
