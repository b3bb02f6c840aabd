"""RabbitMQ streams: three nodes, streams with a replica on each, from Debian's packages.

A stream is acknowledged once a majority of its replicas has written it; streams never sync by themselves. The packages
are unpacked into the cache, not installed, so nothing of them starts with the machine. Node names and the port mapper
are our own, beside any other RabbitMQ here.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_ports

from .processes import CannotBeHad, Failed, Servers, run
from .system import Cluster, Lane, System, installed, need_program

REPLICAS_SECONDS_MAX = 60.0


class RabbitMQ(System):
    name = "rabbitmq"
    keeps = "R=3, page cache: a stream, written by a majority before the answer, never synced by itself"
    client = "rstream_client"
    reads_by = "rstream (Python)"
    lanes = (Lane("rstream send_batch"),)
    start_seconds = 35.0

    def prepare(self) -> None:
        try:
            import rstream  # noqa: F401
        except ImportError:
            raise CannotBeHad("rstream is not installed: pip install -e '.[peers]'") from None
        self._root = installed("rabbitmq", _install)
        self._erlang = self._root / "usr/lib/erlang/bin"
        found = sorted(self._root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin"))
        if not found:
            raise CannotBeHad(f"there is no RabbitMQ in {self._root}: delete it to fetch it anew")
        self._programs = found[-1]
        self._version = self._programs.parent.name.rpartition("-")[2]

    def versions(self) -> dict[str, str]:
        from importlib.metadata import version

        return {"RabbitMQ": f"{self._version}, streams", "rstream": version("rstream")}

    @contextmanager
    def running(self, directory: Path) -> Iterator[Cluster]:
        ports = free_ports(10)
        mapper, amqp, streams, links = ports[0], ports[1:4], ports[4:7], ports[7:10]
        names = [f"peer-{number}-{mapper}@localhost" for number in (1, 2, 3)]
        common = {
            "PATH": f"{self._erlang}:{os.environ['PATH']}",
            "HOME": str(directory),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        }
        with Servers(stop_seconds=3.0) as servers:
            servers.start(
                "epmd",
                [str(self._erlang / "epmd"), "-address", "127.0.0.1", "-port", str(mapper)],
                directory / "epmd.log",
                environment=common,
            )
            for number, name in enumerate(names):
                home = directory / f"rabbitmq-{number + 1}"
                home.mkdir()
                (home / "plugins").write_text("[rabbitmq_stream].\n")
                (home / "rabbitmq.conf").write_text(_configuration(amqp[number], streams[number], names))
                servers.start(
                    f"rabbitmq {number + 1}",
                    ["sh", str(self._programs / "rabbitmq-server")],
                    directory / f"rabbitmq-{number + 1}.log",
                    environment={
                        **common,
                        "RABBITMQ_NODENAME": name,
                        "RABBITMQ_DIST_PORT": str(links[number]),
                        "RABBITMQ_MNESIA_BASE": str(home / "db"),
                        "RABBITMQ_LOG_BASE": str(home),
                        "RABBITMQ_PID_FILE": str(home / "pid"),
                        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq"),
                        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
                        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                            "-setcookie peers -kernel inet_dist_use_interface {127,0,0,1}"
                        ),
                    },
                )
            control = ["sh", str(self._programs / "rabbitmqctl"), "-n", names[0], "--erlang-cookie", "peers", "-q"]
            addresses = ",".join(f"rabbitmq://127.0.0.1:{port}" for port in streams)
            cluster = RabbitCluster(servers, addresses, control, common)
            servers.wait_until("rabbitmq", cluster.is_whole, seconds=150)
            yield cluster


class RabbitCluster(Cluster):
    def __init__(self, servers: Servers, addresses: str, control: list[str], environment: dict[str, str]) -> None:
        super().__init__(servers, addresses)
        self._control, self._environment = control, environment

    def is_whole(self) -> bool:
        """All three nodes run, and listen for streams."""
        time.sleep(2)  # each look is an Erlang of its own
        try:
            said = run(
                [*self._control, "cluster_status", "--formatter", "json"],
                "rabbitmqctl",
                environment=self._environment,
                seconds=60,
            )
            found = json.loads(said[said.index("{") :])
        except (Failed, ValueError):
            return False
        listening = [
            node
            for node, listeners in found["listeners"].items()
            if any(listener["protocol"] == "stream" for listener in listeners)
        ]
        return len(found["running_nodes"]) == len(listening) == 3

    def make_topic(self, name: str) -> None:
        asyncio.run(self._make_topic(name))

    async def _make_topic(self, name: str) -> None:
        from rstream import Producer

        host, _, port = self.addresses.split(",")[0].rpartition("/")[2].rpartition(":")
        async with Producer(host, int(port), username="guest", password="guest") as producer:
            await producer.create_stream(name, arguments={"initial-cluster-size": "3"})
            client = await producer.default_client
            deadline = time.monotonic() + REPLICAS_SECONDS_MAX
            while True:
                _, replicas = await client.query_leader_and_replicas(name)
                if len(replicas) == 2:
                    return
                if time.monotonic() > deadline:
                    raise Failed(f"rabbitmq: stream {name} has {1 + len(replicas)} of 3 replicas")
                await asyncio.sleep(0.2)


def _configuration(amqp_port: int, stream_port: int, names: list[str]) -> str:
    nodes = "\n".join(
        f"cluster_formation.classic_config.nodes.{number} = {name}" for number, name in enumerate(names, 1)
    )
    return f"""\
listeners.tcp.1 = 127.0.0.1:{amqp_port}
stream.listeners.tcp.1 = 127.0.0.1:{stream_port}
stream.advertised_host = 127.0.0.1
stream.advertised_port = {stream_port}
cluster_formation.peer_discovery_backend = classic_config
{nodes}
disk_free_limit.absolute = 1GB
log.console = true
log.console.level = error
log.file = false
"""


def _install(directory: Path) -> None:
    """Download the packages that apt would install, and unpack them."""
    remedy = "RabbitMQ comes from Debian's packages"
    apt, unpack = need_program("apt-get", remedy), need_program("dpkg-deb", remedy)
    try:
        simulated = run([apt, "-s", "install", "--no-install-recommends", "rabbitmq-server"], "apt-get -s install")
        packages = re.findall(r"^Inst (\S+)", simulated, re.MULTILINE)
        if "rabbitmq-server" not in packages:
            raise CannotBeHad("RabbitMQ is installed here already, or has no package: only a fresh unpacking is run")
        downloads = directory / "packages"
        downloads.mkdir()
        into = ["sh", "-c", 'cd "$0" && exec "$@"', str(downloads)]
        run([*into, apt, "download", *packages], "apt-get download", seconds=600)
        for package in downloads.glob("*.deb"):
            run([unpack, "-x", str(package), str(directory)], f"dpkg-deb -x {package.name}")
    except Failed as failure:
        raise CannotBeHad(str(failure)) from None
    _say_where_erlang_is(directory)


def _say_where_erlang_is(directory: Path) -> None:
    """Its start script has the place written into it; ours is where the directory will be once it is whole."""
    place = directory.with_name(directory.name.removesuffix(".unfinished")) / "usr/lib/erlang"
    for script in (*directory.glob("usr/lib/erlang/bin/*"), *directory.glob("usr/lib/erlang/erts-*/bin/*")):
        if script.is_symlink() or not script.is_file() or script.read_bytes()[:2] != b"#!":
            continue
        script.write_text(re.sub(r"ROOTDIR=/usr/lib/erlang", f"ROOTDIR={place}", script.read_text()))
