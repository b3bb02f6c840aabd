"""A broker's start, in its order."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from lograft.node.config import load_config
from lograft.node.node import Node
from lograft.partitions.real_environment import RealEnvironment
from lograft.partitions.storage.promises import Promises
from lograft.proto.errors import InvalidConfig


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_only_a_start_that_has_read_the_logs_lets_the_next_one_go_by_the_page_cache(tmp_path: Path) -> None:
    async def opened() -> Promises:
        environment = RealEnvironment(str(tmp_path))
        promises = await Promises.open(environment, str(tmp_path))
        await promises.close()
        environment.stop()
        return promises

    async def scenario() -> None:
        ports = {door: free_port() for door in ("grpc", "peer", "http")}
        config = load_config(
            None,
            {},
            [
                "broker.id=0",
                f"broker.data_directory={tmp_path}",
                *(f"listen.{door}=127.0.0.1:{port}" for door, port in ports.items()),
                # It waits for another one, so no cluster is formed while it stops.
                f"cluster.peers=0=127.0.0.1:{ports['peer']},1=127.0.0.1:{free_port()}",
                "cluster.secret=" + "x" * 32,
            ],
        )
        first = Node(config)
        await first.start()
        await first.stop()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lograft.partitions.real_environment.boot_id", lambda: "another boot")
            with socket.create_server(("127.0.0.1", ports["http"])), pytest.raises(InvalidConfig, match="for HTTP"):
                taken = Node(config)
                await taken.start()
            taken._environment.stop()
            taken._directory.release()
            assert (await opened()).boot_changed
            again = Node(config)
            await again.start()
            await again.stop()
            assert not (await opened()).boot_changed

    asyncio.run(scenario())
