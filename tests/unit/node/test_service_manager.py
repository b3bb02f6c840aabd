"""What systemd hears from a broker that it started."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from lograft.node.service_manager import tell


def test_who_asked_to_be_told_is_told_by_a_path_or_an_abstract_name(tmp_path: Path) -> None:
    abstract = f"lograft-test-{os.getpid()}"
    for address, name in ((str(tmp_path / "notify"), str(tmp_path / "notify")), ("\0" + abstract, "@" + abstract)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(address)
            manager.settimeout(5)
            tell("READY=1", {"NOTIFY_SOCKET": name})
            assert manager.recv(100) == b"READY=1"


def test_nobody_who_listens_is_no_reason_to_fail(tmp_path: Path) -> None:
    tell("READY=1", {})
    tell("READY=1", {"NOTIFY_SOCKET": ""})
    tell("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    tell("READY=1", {"NOTIFY_SOCKET": "vsock:2:1234"})
