"""NATS JetStream: three servers, streams of three replicas in files.

A JetStream server syncs its files every two minutes by default (`sync_interval`), so an acknowledgement says that a
majority has written, not that it has synced. With `sync_always` the servers have `sync_interval: always`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_ports

from .processes import CannotBeHad, Failed, Servers, run
from .system import Cluster, Lane, System, installed, need_program
from .tool_output import nats_bench, nats_bench_latencies

SERVER_VERSION = "v2.15.2"
TOOL_VERSION = "v0.5.1"
ASYNC = "nats bench js pub async"
FAST = "nats bench js pub fast"
SYNC = "nats bench js pub sync"
ORDERED = "nats bench js ordered"


class Nats(System):
    client = "nats_client"
    reads_by = "nats-py (Python)"
    lanes = (Lane("nats-py publish_async"),)
    start_seconds = 5.0

    def __init__(self, name: str = "nats", *, sync_always: bool = False) -> None:
        self.name = name
        self.sync_always = sync_always
        self.keeps = (
            "R=3, fsync: sync_interval is always, synced by a majority before the answer"
            if sync_always
            else "R=3, page cache: written by a majority before the answer, synced every two minutes (the default)"
        )
        self.produce_tools = (ASYNC,) if sync_always else (ASYNC, FAST)
        self.read_tools = () if sync_always else (ORDERED,)
        self.is_read = not sync_always
        self.one_by_one_tools = (SYNC,)

    def prepare(self) -> None:
        try:
            import nats  # noqa: F401
        except ImportError:
            raise CannotBeHad("nats-py is not installed: pip install -e '.[peers]'") from None
        if shutil.which("go"):
            programs = installed(f"nats-{SERVER_VERSION}-{TOOL_VERSION}", _install)
            self._server, self._tool = str(programs / "nats-server"), str(programs / "nats")
        else:
            remedy = "install Go, or nats-server and nats"
            self._server, self._tool = need_program("nats-server", remedy), need_program("nats", remedy)

    def versions(self) -> dict[str, str]:
        from importlib.metadata import version

        return {
            "NATS": run([self._server, "--version"], "nats-server --version").split()[-1],
            "nats bench": run([self._tool, "--version"], "nats --version").strip(),
            "nats-py": version("nats-py"),
        }

    @contextmanager
    def running(self, directory: Path) -> Iterator[Cluster]:
        ports = free_ports(6)
        routes = ", ".join(f"nats-route://127.0.0.1:{port}" for port in ports[3:])
        sync = ", sync_interval: always" if self.sync_always else ""
        with Servers() as servers:
            for number in range(3):
                config = directory / f"nats-{number + 1}.conf"
                config.write_text(
                    f"""\
server_name: nats-{number + 1}
listen: 127.0.0.1:{ports[number]}
jetstream {{ store_dir: "{directory}/nats-{number + 1}"{sync} }}
cluster {{ name: peers, listen: 127.0.0.1:{ports[3 + number]}, routes: [{routes}] }}
"""
                )
                servers.start(
                    f"nats {number + 1}", [self._server, "-c", str(config)], directory / f"nats-{number + 1}.log"
                )
            cluster = NatsCluster(servers, ",".join(f"nats://127.0.0.1:{port}" for port in ports[:3]), self._tool)
            servers.wait_until("nats", cluster.is_whole, seconds=60)
            yield cluster


class NatsCluster(Cluster):
    def __init__(self, servers: Servers, addresses: str, tool: str) -> None:
        super().__init__(servers, addresses)
        self._tool = [tool, "--no-context", "-s", addresses]

    def is_whole(self) -> bool:
        try:
            self.make_topic("probe")
        except Failed:
            return False
        return True

    def make_topic(self, name: str) -> None:
        run(
            [
                *(*self._tool, "stream", "add", name, "--subjects", name, "--storage", "file", "--replicas", "3"),
                *("--allow-fast", "--defaults"),
            ],
            f"nats stream add {name}",
            seconds=15,
        )

    def produce_by_tool(self, tool: str, topic: str, record_bytes: int, records: int) -> dict[str, float]:
        way = "fast" if tool == FAST else "async"
        output = self._bench("pub", way, topic, "--stream", topic, "--size", f"{record_bytes}B", "--msgs", str(records))
        return {**nats_bench(output, record_bytes), "in_topic": records}

    def read_by_tool(self, tool: str, topic: str, record_bytes: int, records: int) -> dict[str, float]:
        return nats_bench(self._bench("ordered", "--stream", topic, "--msgs", str(records)), record_bytes)

    def one_by_one_by_tool(self, tool: str, topic: str, record_bytes: int, records: int) -> dict[str, float]:
        return nats_bench_latencies(
            self._bench("pub", "sync", topic, "--stream", topic, "--size", f"{record_bytes}B", "--msgs", str(records))
        )

    def _bench(self, *words: str) -> str:
        return run([*self._tool, "bench", "js", *words, "--no-progress"], f"nats bench js {' '.join(words[:2])}")


def _install(directory: Path) -> None:
    go = need_program("go", "NATS comes with `go install`")
    try:
        for module in (
            f"github.com/nats-io/nats-server/v2@{SERVER_VERSION}",
            f"github.com/nats-io/natscli/nats@{TOOL_VERSION}",
        ):
            run([go, "install", module], f"go install {module}", seconds=900, environment={"GOBIN": str(directory)})
    except Failed as failure:
        raise CannotBeHad(str(failure)) from None
