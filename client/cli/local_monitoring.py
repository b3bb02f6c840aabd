"""Prometheus beside the brokers of a local cluster.

    DIR/prometheus/     prometheus.yml and alerts.yml (written anew by each `up --monitoring`), log, log.previous, data/

Always
    it is found, never fetched: what this machine has is what runs
    it listens on the loopback address alone
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import monitoring_files, processes
from .endings import Refused
from .ports import HOST, PORT_MAX, is_free
from .processes import ProcessIdentity

SCRAPE_INTERVAL_S = 5.0
"""Of a cluster on one's own machine, where one looks at once."""
READY_TIMEOUT_S = 30.0
_PORT_AFTER_BASE = 4
"""Broker 0 has base + 0 to + 3."""
_RETENTION = ("7d", "1GB")


@dataclass(slots=True)
class LocalMonitoring:
    """The Prometheus of one local cluster, as last started."""

    directory: Path
    port: int
    process: ProcessIdentity | None = None
    ended_by: str | None = None
    """The command that ended it; None if it runs, or went by itself."""

    @classmethod
    def of_description(cls, directory: Path, described: dict[str, Any]) -> LocalMonitoring:
        """From what `description` gave. Raises KeyError, TypeError or ValueError if it is none."""
        found = cls(directory, int(described["port"]), ended_by=described["ended_by"])
        if described["pid"] is not None:
            found.process = ProcessIdentity(int(described["pid"]), str(described["birth"]))
        return found

    def description(self) -> dict[str, Any]:
        return {
            "port": self.port,
            "pid": self.process.pid if self.process else None,
            "birth": self.process.birth if self.process else None,
            "ended_by": self.ended_by,
        }

    @property
    def is_running(self) -> bool:
        return processes.is_alive(self.process)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def configure(self, targets: Sequence[str]) -> None:
        """Write what it needs to start; one that runs takes the new targets up."""
        self.directory.mkdir(exist_ok=True)
        config = monitoring_files.prometheus_config(targets, scrape_interval_s=SCRAPE_INTERVAL_S)
        for name, text in (("prometheus.yml", config), (monitoring_files.ALERTS_FILE, monitoring_files.alerts())):
            new = self.directory / f".{name}.{os.getpid()}"
            new.write_text(text, "utf-8")
            new.replace(self.directory / name)
        if self.process is not None:
            processes.send_signal(self.process, signal.SIGHUP)

    def launch(self, program: Path) -> None:
        """Start it, without waiting until it is ready. It must not run."""
        if self.log.exists():
            self.log.replace(self.log.with_name("log.previous"))
        self.process = processes.spawn(
            self._command(program), directory=self.directory, log=self.log, environment=os.environ
        )
        self.ended_by = None

    def _command(self, program: Path) -> list[str]:
        retention_time, retention_size = _RETENTION
        command = [
            str(program),
            f"--config.file={self.directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--storage.tsdb.retention.time={retention_time}",
            f"--storage.tsdb.retention.size={retention_size}",
            f"--web.listen-address={HOST}:{self.port}",
        ]
        # Debian's package, unpacked somewhere instead of installed, finds the files of its web pages only if told.
        pages = program.resolve().parents[1] / "share" / "prometheus" / "web"
        if pages.is_dir() and pages != Path("/usr/share/prometheus/web"):
            command.append(f"--web.local-assets={pages}")
        return command

    def wait_until_ready(self) -> None:
        """Raises Refused, with the last line of its log, if it dies or is not ready in time."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._is_ready():
            died = not self.is_running
            if died or time.monotonic() > deadline:
                words = processes.last_lines(self.log, 1)
                what = "did not start" if died else f"was not ready after {READY_TIMEOUT_S:.0f} s"
                raise Refused(f"Prometheus {what}{f' ({words[0]})' if words else ''}", f"its log is {self.log}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            self._get("/-/ready")
        except (OSError, ValueError):
            return False
        return True

    def firing(self) -> list[str] | None:
        """The names of the alerts that fire now, each once; None if it does not say."""
        try:
            answer = json.loads(self._get("/api/v1/alerts"))
            fire = {one["labels"]["alertname"] for one in answer["data"]["alerts"] if one["state"] == "firing"}
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return sorted(fire)

    def _get(self, path: str) -> bytes:
        import urllib.request

        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(self.url + path, timeout=1.0) as answer:
            body: bytes = answer.read()
        return body


def find_program() -> Path:
    """Prometheus, installed or unpacked into the cache. Raises Refused that says how to get it."""
    found = shutil.which("prometheus") or shutil.which("prometheus", path=str(cache_directory() / "usr" / "bin"))
    if found is None:
        raise Refused(
            "--monitoring needs Prometheus, and there is none on PATH",
            "install it (Debian, Ubuntu: `sudo apt install prometheus`; macOS: `brew install prometheus`), or without "
            f"root: `apt-get download prometheus && dpkg -x prometheus_*.deb {cache_directory()}`",
        )
    return Path(found)


def cache_directory() -> Path:
    """Where a Prometheus that nobody installed is looked for, as Debian's package unpacks (usr/bin/prometheus)."""
    base = os.environ.get("XDG_CACHE_HOME") or ""
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "lograft" / "prometheus"


def choose_port(base_port: int, before: int | None, *, free: Callable[[int], bool] = is_free) -> int:
    """The one it had before, so that bookmarks hold; else next to broker 0's; else any that is free."""
    for port in (before, base_port + _PORT_AFTER_BASE):
        if port is not None and port <= PORT_MAX and free(port):
            return port
    with socket.socket() as picked:
        picked.bind((HOST, 0))
        return int(picked.getsockname()[1])
