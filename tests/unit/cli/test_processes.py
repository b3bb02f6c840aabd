"""Processes are told apart by pid and birth, so that nobody else's is ever signalled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lograft.client.cli import processes
from lograft.client.cli.processes import ProcessIdentity, identity_of, is_alive, send_signal

SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)",
]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEPS) as process:
        yield process
        process.kill()


def test_a_process_keeps_its_identity(sleeper: subprocess.Popen[bytes]) -> None:
    assert identity_of(sleeper.pid) == identity_of(sleeper.pid) != identity_of(os.getpid())


def test_a_recycled_pid_is_neither_alive_nor_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    earlier = ProcessIdentity(sleeper.pid, "another boot:12345")
    assert not is_alive(earlier)
    assert not send_signal(earlier, signal.SIGKILL)
    assert processes.stop_all([earlier], timeout_s=0.0) == []
    assert sleeper.poll() is None


def test_a_dead_process_that_nobody_waited_for_counts_as_dead(sleeper: subprocess.Popen[bytes]) -> None:
    identity = identity_of(sleeper.pid)
    os.kill(sleeper.pid, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert identity_of(sleeper.pid) is None
    assert not is_alive(identity)


def test_a_process_that_does_not_stop_is_killed_and_named(tmp_path: Path) -> None:
    log = tmp_path / "log"
    identity = processes.spawn(DEAF, directory=tmp_path, log=log, environment=dict(os.environ))
    assert identity is not None
    while not processes.last_lines(log):
        assert is_alive(identity)
    assert processes.stop_all([identity], timeout_s=0.1) == [identity]
    assert not is_alive(identity)


def test_a_spawned_process_is_in_a_session_of_its_own_so_that_ctrl_c_does_not_reach_it(tmp_path: Path) -> None:
    identity = processes.spawn(SLEEPS, directory=tmp_path, log=tmp_path / "log", environment=dict(os.environ))
    assert identity is not None
    assert os.getsid(identity.pid) == identity.pid
    send_signal(identity, signal.SIGKILL)
    assert processes.wait_until_gone([identity], 5.0) == []


def test_how_a_process_ended_is_told_once(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        identity = ProcessIdentity(process.pid, "")
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert processes.how_it_ended(identity) == "exit code 3"
        assert processes.how_it_ended(identity) is None
        process.returncode = 3


def test_the_last_lines_of_a_log_are_found_whatever_it_holds(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert processes.last_lines(log) == []
    log.write_bytes(b"x" * 100_000 + b"\none\n\n\xff two\n")
    assert processes.last_lines(log, 2) == ["one", "\ufffd two"]
