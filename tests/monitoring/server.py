"""A real Prometheus that watches brokers of a test, and what it says of them."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any

from lograft.client.cli import monitoring_files

from tests.ports import free_ports

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Prometheus:
    """One server. Files in `directory`; rules as those of users, but quicker."""

    def __init__(self, program: Path, directory: Path, *, scrape_interval_s: float, rules: str) -> None:
        self._program = program
        self._directory = directory
        self._scrape_interval_s = scrape_interval_s
        (self.port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(exist_ok=True)
        (directory / monitoring_files.ALERTS_FILE).write_text(rules)

    def watch(self, targets: Sequence[str]) -> None:
        """From now on these HTTP ports. Starts it, if it does not run."""
        config = monitoring_files.prometheus_config(targets, scrape_interval_s=self._scrape_interval_s)
        (self._directory / "prometheus.yml").write_text(config)
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)
            return
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._program,
                    f"--config.file={self._directory / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._directory / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"Prometheus did not start:\n{(self._directory / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            with _DIRECT.open(f"http://127.0.0.1:{self.port}/-/ready", timeout=1):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and values of an instant query. ValueError where Prometheus does not understand it."""
        answer = self._get("/api/v1/query", query=expression)
        return [(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        found = self._get("/api/v1/alerts")["data"]["alerts"]
        return {one["labels"]["alertname"] for one in found if one["state"] == "firing"}

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with _DIRECT.open(url, timeout=5) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from None


class Ledger:
    """Which alerts were seen to fire, and to be quiet again afterwards, and when."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus
        self._began = time.monotonic()
        self.fired: dict[str, float] = {}
        self.cleared: dict[str, float] = {}

    def look(self) -> set[str]:
        """What fires now."""
        now = time.monotonic() - self._began
        firing = self._prometheus.firing()
        for name in firing:
            self.fired.setdefault(name, now)
            self.cleared.pop(name, None)
        for name in self.fired.keys() - firing:
            self.cleared.setdefault(name, now)
        return firing

    def await_firing(self, *names: str, seconds: float) -> None:
        """Until each of them has been seen, at once or one after the other."""
        self._await(lambda firing, seen: set(names) <= seen, f"{', '.join(names)} to fire", seconds)

    def await_quiet(self, *names: str, besides: Set[str] = frozenset(), seconds: float) -> None:
        """Until none of them fires; of no names: nothing at all, `besides` those."""
        what = f"{', '.join(names) or 'all alerts'} to clear"
        self._await(
            lambda firing, seen: not (firing & set(names) if names else firing - besides),
            what,
            seconds,
        )

    def _await(self, enough: Callable[[set[str], set[str]], bool], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        seen: set[str] = set()
        while True:
            firing = self.look()
            seen |= firing
            if enough(firing, seen):
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds:g} s for {what}; fired meanwhile: {sorted(seen)}, now: {firing}")
            time.sleep(0.2)

    def table(self) -> str:
        lines = [f"{'ALERT':34} {'FIRED':>8} {'CLEARED':>8}   seconds since Prometheus was started"]
        for name, fired in sorted(self.fired.items(), key=lambda item: item[1]):
            cleared = f"{self.cleared[name]:8.1f}" if name in self.cleared else "      no"
            lines.append(f"{name:34} {fired:8.1f} {cleared}")
        return "\n".join(lines)
