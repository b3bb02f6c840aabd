"""Who may import whom. ARCHITECTURE.md says why; this keeps it true."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PACKAGES = {
    "lograft": ROOT / "client" / "front",
    "lograft.v1": ROOT / "proto" / "lograft" / "v1",
    "lograft.proto": ROOT / "proto",
    "lograft.partitions": ROOT / "partitions",
    "lograft.node": ROOT / "node",
    "lograft.client": ROOT / "client",
}
"""Import name of each of our folders, as `package-dir` in pyproject.toml has them."""

PURE = {
    *("__future__", "abc", "bisect", "collections", "dataclasses", "enum", "functools", "hashlib", "heapq"),
    *("itertools", "math", "operator", "random", "struct", "typing", "zlib"),
}
"""Standard library without clock, file, socket or thread behind it."""

OUTSIDE = {
    *("concurrent", "datetime", "io", "multiprocessing", "os", "pathlib", "secrets", "shutil", "signal", "socket"),
    *("subprocess", "tempfile", "threading", "time", "uuid", "uvloop"),
}
"""Modules that reach a clock, chance, a thread, the disk or the network."""

OUTSIDE_CALLS = {"call_soon_threadsafe", "getrandom", "run_in_executor", "to_thread", "urandom"}
"""Methods and functions that do, in modules of which the rest is harmless."""


def sources(folder: str) -> list[Path]:
    """The Python files below a folder, without generated stubs."""
    return [path for path in sorted((ROOT / folder).rglob("*.py")) if not path.stem.endswith(("_pb2", "_pb2_grpc"))]


def module_name(path: Path) -> str:
    """The name by which a file of ours is imported; of a package's `__init__.py`, that of the package."""
    package, folder = max(
        ((name, folder) for name, folder in PACKAGES.items() if path.is_relative_to(folder)),
        key=lambda found: len(found[1].parts),
    )
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join((package, *(part for part in parts if part != "__init__")))


def imports(path: Path, source: str | None = None) -> set[str]:
    """Every module that a file imports, wherever in it, relative ones resolved; of `from m import n`, m and m.n."""
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text() if source is None else source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - (node.level - 1)] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def below(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def parametrized(*folders: str) -> pytest.MarkDecorator:
    paths = [path for folder in folders for path in sources(folder)]
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


@parametrized("partitions/raft")
def test_consensus_knows_nothing_but_pure_standard_library(path: Path) -> None:
    foreign = {module for module in imports(path) if not below(module, *PURE, "lograft.partitions.raft")}
    assert not foreign - {"lograft.partitions"}, "`from . import x` of the package itself is all that may remain"


@parametrized("partitions")
def test_a_partition_knows_nothing_of_grpc_kafka_or_the_cluster(path: Path) -> None:
    allowed = ("lograft.partitions", "lograft.proto.record_batch", "lograft.proto.errors")
    ours = {module for module in imports(path) if below(module, "lograft")}
    assert not {module for module in ours if not below(module, *allowed)} - {"lograft.proto"}
    assert not {module for module in imports(path) if below(module, "grpc", "google", "pysyncobj", "aiokafka")}


@parametrized("client")
def test_a_client_knows_nothing_of_what_runs_in_a_broker(path: Path) -> None:
    assert not {module for module in imports(path) if below(module, "lograft.node", "lograft.partitions", "pysyncobj")}


@parametrized("proto")
def test_the_contract_knows_nobody_who_keeps_it(path: Path) -> None:
    kept_by = ("lograft.node", "lograft.partitions", "lograft.client")
    assert not {module for module in imports(path) if below(module, *kept_by)}


@parametrized("node")
def test_a_broker_knows_of_the_clients_nothing_but_for_its_console_which_is_one(path: Path) -> None:
    is_console = path.is_relative_to(ROOT / "node" / "console")
    assert is_console or not {module for module in imports(path) if below(module, "lograft.client")}


@parametrized("node")
def test_a_broker_knows_of_its_console_the_door_alone(path: Path) -> None:
    if path.is_relative_to(ROOT / "node" / "console") and path.name not in ("door.py", "__init__.py"):
        return
    # What only types need is not there at run time.
    source = path.read_text().replace("if TYPE_CHECKING:\n    from .app import ConsoleApp\n", "")
    beyond = {module for module in imports(path, source) if below(module, "lograft.node.console", "starlette", "h11")}
    door = ("lograft.node.console.door", "lograft.node.console.door.ConsoleDoor", "lograft.node.console")
    assert not beyond - {*door}, "it would be imported when the broker starts"


@parametrized("node", "partitions", "client", "proto")
def test_the_stubs_are_used_at_the_two_ends_of_grpc_alone(path: Path) -> None:
    at_an_end = any(path.is_relative_to(ROOT / folder) for folder in ("node/rpc", "client", "proto/lograft"))
    assert at_an_end or not {module for module in imports(path) if below(module, "lograft.v1")}


@parametrized("node", "partitions", "client", "proto")
def test_kafkas_schemas_are_known_to_the_door_for_kafka_clients_alone(path: Path) -> None:
    is_door = path.is_relative_to(ROOT / "node" / "kafka")
    assert is_door or not {module for module in imports(path) if below(module, "kio", "kafka")}


def test_a_broker_without_a_door_for_kafka_clients_loads_nothing_of_it() -> None:
    loaded = "any(name.startswith(('kio', 'lograft.node.kafka')) for name in sys.modules)"
    code = f"import sys, lograft.node.node; sys.exit({loaded})"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@parametrized("node", "partitions", "client", "proto")
def test_pysyncobj_is_known_to_the_sightings_board_alone(path: Path) -> None:
    is_board = path == ROOT / "node" / "sightings_board.py"
    assert is_board or not {module for module in imports(path) if below(module, "pysyncobj")}


@parametrized("partitions")
def test_time_chance_and_disk_reach_a_partition_through_its_environment(path: Path) -> None:
    is_the_door = path == ROOT / "partitions" / "real_environment.py"
    assert is_the_door or not reached_outside(path, path.read_text())


def reached_outside(path: Path, source: str) -> set[str]:
    """What of clock, chance, threads and disk a file reaches past its environment."""
    modules = imports(path, source)
    reached = {module for module in modules if below(module, *OUTSIDE)}
    if "random" in modules and {module for module in modules if below(module, "random")} != {"random", "random.Random"}:
        reached.add("random")  # the module's own functions share one hidden seed
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in OUTSIDE_CALLS:
            reached.add(node.attr)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            unseeded = node.func.id == "Random" and not node.args
            reached |= {node.func.id} if unseeded or node.func.id == "open" else set()
    return reached


# The rules above are worth what these helpers see.


@pytest.mark.parametrize(
    ("file", "source", "seen"),
    [
        ("partitions/raft/core.py", "from .points import Point", "lograft.partitions.raft.points.Point"),
        ("partitions/raft/core.py", "from ..environment import Disk", "lograft.partitions.environment"),
        ("partitions/storage/log.py", "def f():\n    from ...node import config", "lograft.node.config"),
        ("partitions/replica.py", "from ..proto import peer_frames", "lograft.proto.peer_frames"),
        ("partitions/raft/__init__.py", "from . import core", "lograft.partitions.raft.core"),
        ("client/front/__init__.py", "from lograft.client.producer import Producer", "lograft.client.producer"),
        ("client/cli/main.py", "from ..producer import Producer", "lograft.client.producer"),
        ("proto/lograft/v1/__init__.py", "from . import common_pb2", "lograft.v1.common_pb2"),
        ("node/node.py", "import grpc.aio", "grpc.aio"),
        ("node/node.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pysyncobj", "pysyncobj"),
    ],
)
def test_an_import_is_seen_however_it_is_written(file: str, source: str, seen: str) -> None:
    assert seen in imports(ROOT / file, source)


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from time import monotonic",
        "import random",
        "from random import Random, shuffle",
        "from random import Random\nchance = Random()",
        "from datetime import datetime",
        "from concurrent.futures import ThreadPoolExecutor",
        "import os.path",
        "def f(system):\n    return system.urandom(8)",
        "def f(path):\n    return open(path).read()",
        "import asyncio\nasync def f():\n    await asyncio.to_thread(print)",
        "def f(loop):\n    loop.run_in_executor(None, print)",
    ],
)
def test_a_way_around_the_environment_is_seen(source: str) -> None:
    assert reached_outside(ROOT / "partitions" / "replica.py", source)


def test_seeded_chance_and_futures_are_no_way_around_the_environment() -> None:
    source = "import asyncio\nfrom random import Random\nchance = Random(7)\nwaiting: asyncio.Future[int]"
    assert not reached_outside(ROOT / "partitions" / "replica.py", source)
