"""When there is a console, and when it changes nothing."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from lograft.node.config import load_config
from lograft.node.console.door import ConsoleDoor, is_loopback


def door(http: str, **settings: str) -> ConsoleDoor:
    sets = ["broker.id=0", "broker.data_directory=d", f"listen.http={http}"]
    config = load_config(None, {}, [*sets, *(f"console.{name}={value}" for name, value in settings.items())])
    nobody: Any = None
    return ConsoleDoor(config, nobody, lambda: None)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:1", "[::1]:1", "127.8.0.1:1"])
def test_these_addresses_only_this_machine_reaches(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "broker-1:1"])
def test_these_others_may_reach(address: str) -> None:
    assert not is_loopback(address)


def test_by_default_it_is_there_where_only_this_machine_reaches_it_and_may_change_things_there() -> None:
    assert door("127.0.0.1:1").is_enabled and not door("127.0.0.1:1").is_read_only
    assert not door("0.0.0.0:1").is_enabled


def test_opened_to_others_it_only_shows_unless_that_is_said_too() -> None:
    assert door("0.0.0.0:1", enabled="yes").is_enabled and door("0.0.0.0:1", enabled="yes").is_read_only
    assert not door("0.0.0.0:1", enabled="yes", read_only="no").is_read_only
    assert door("127.0.0.1:1", read_only="yes").is_read_only
    assert not door("127.0.0.1:1", enabled="no").is_enabled


@pytest.mark.parametrize(
    "path", [b"/", b"/console", b"/console/", b"/console/api/overview?x=/../", b"/console/../metrics"]
)
def test_these_paths_are_the_consoles(path: bytes) -> None:
    assert door("127.0.0.1:1").takes(b"GET", path)


@pytest.mark.parametrize(
    ("method", "path"),
    [(b"GET", b"/metrics"), (b"GET", b"/consoles"), (b"GET", b"/%63onsole/"), (b"PUT", b"/console/"), (b"TRACE", b"/"),
     (b"GET", b"http://x/console/"), (b"GET", b"//console/"), (b"", b""), (b"OPTIONS", b"/console/")],
)  # fmt: skip
def test_these_are_not(method: bytes, path: bytes) -> None:
    assert not door("127.0.0.1:1").takes(method, path)


def test_a_broker_that_starts_imports_nothing_of_it_but_the_door() -> None:
    look = "import sys, lograft.node.node as _; print({'starlette', 'h11', 'lograft.client.client'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout == "set()\n"
