"""A disk that is read, and keeps to itself what is written: on it recovery runs without changing anything.

Invariants
    nothing is ever written to, created on, renamed or removed from the disk beneath
    whoever reads it finds what was written through it, and else what lies beneath
    bytes written over equal ones take no memory, so that a log that is written again does not
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any, NoReturn, TypeVar

from ...environment import Buffer, Disk, Environment, File, PartitionId, TimerHandle
from ...raft.messages import Message

T = TypeVar("T")


def finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that waits for nothing but a dry disk, which never lets anybody wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    coroutine.close()
    raise AssertionError("it waits for something else than a dry disk")


class _Layer:
    """What was done to one file. `origin` is its name on the disk beneath; None if it is not there."""

    def __init__(self, origin: str | None, size: int) -> None:
        self.origin = origin
        self.size = size
        self.kept = size
        """Bytes of the origin that were never truncated."""
        self.patches: list[tuple[int, bytes]] = []


class DryFile:
    """`environment.File` over a file that is only read."""

    def __init__(self, path: str, layer: _Layer, beneath: File | None) -> None:
        self._path = path
        self._layer = layer
        self._beneath = beneath

    @property
    def path(self) -> str:
        return self._path

    def size(self) -> int:
        return self._layer.size

    def read(self, position: int, size: int) -> bytes:
        layer = self._layer
        end = min(position + size, layer.size)
        if end <= position:
            return b""
        found = b""
        if self._beneath is not None and position < layer.kept:
            found = self._beneath.read(position, min(end, layer.kept) - position)
        if len(found) == end - position and not layer.patches:
            return found
        whole = bytearray(found.ljust(end - position, b"\0"))
        for at, patch in layer.patches:
            first, last = max(at, position), min(at + len(patch), end)
            if first < last:
                whole[first - position : last - position] = patch[first - at : last - at]
        return bytes(whole)

    def write(self, position: int, buffers: Sequence[Buffer]) -> None:
        content, layer = b"".join(buffers), self._layer
        if position + len(content) <= layer.size and self.read(position, len(content)) == content:
            return
        layer.patches.append((position, content))
        layer.size = max(layer.size, position + len(content))

    def truncate(self, size: int) -> None:
        layer = self._layer
        layer.kept = min(layer.kept, size)
        layer.patches = [(at, patch[: size - at]) for at, patch in layer.patches if at < size]
        layer.size = size

    def read_cached(self, position: int, size: int) -> bytes:
        return self.read(position, size)

    async def bring_in(self, position: int, size: int) -> None:
        return

    async def fdatasync(self) -> None:
        return

    def close(self) -> None:
        if self._beneath is not None:
            self._beneath.close()


class DryDisk(Disk):
    """`environment.Disk` over another one. Made anew for each log that is looked at: it remembers every name it met."""

    def __init__(self, beneath: Disk) -> None:
        self.boot_id = beneath.boot_id
        self._beneath = beneath
        self._layers: dict[str, _Layer | None] = {}
        """None: there is no such name any more."""

    def origin(self, path: str) -> str:
        """Under which name the bytes at `path` are stored."""
        layer = self._layers.get(path)
        return layer.origin if layer is not None and layer.origin is not None else path

    def open(self, path: str, *, create: bool = False) -> File:
        if create:
            if self.exists(path):
                raise FileExistsError(errno.EEXIST, "it is there", path)
            layer = self._layers[path] = _Layer(None, 0)
            return DryFile(path, layer, None)
        known = self._layer(path)
        beneath = self._beneath.open(known.origin) if known.origin is not None else None
        return DryFile(path, known, beneath)

    def _layer(self, path: str) -> _Layer:
        if path not in self._layers:
            beneath = self._beneath.open(path)
            try:
                self._layers[path] = _Layer(path, beneath.size())
            finally:
                beneath.close()
        layer = self._layers[path]
        if layer is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return layer

    def exists(self, path: str) -> bool:
        return self._layers[path] is not None if path in self._layers else self._beneath.exists(path)

    def list(self, directory: str) -> list[str]:
        names = set(self._beneath.list(directory))
        for path, layer in self._layers.items():
            parent, _, name = path.rpartition("/")
            if parent == directory:
                (names.discard if layer is None else names.add)(name)
        return sorted(names)

    def make_directory(self, path: str) -> None:
        return

    def remove_directory(self, path: str) -> None:
        return

    def rename(self, old: str, new: str) -> None:
        self._layers[new] = self._layer(old)
        self._layers[old] = None

    def link(self, old: str, new: str) -> None:
        self._layers[new] = self._layer(old)

    def unlink(self, path: str) -> None:
        self._layer(path)
        self._layers[path] = None

    def free_bytes(self) -> int:
        return 1 << 60

    def total_bytes(self) -> int:
        return 1 << 60

    async def sync_directory(self, path: str) -> None:
        return


class _NobodyThere:
    def send(self, partition: PartitionId, message: Message) -> None:
        raise AssertionError("whoever reads a log sends nothing")


class DryEnvironment(Environment):
    """What recovery asks of the outside, where nothing may come of it. No time passes and nothing runs later."""

    def __init__(self, disk: DryDisk) -> None:
        self.random = Random(0)
        self.disk: Disk = disk
        self.transport = _NobodyThere()

    def monotonic_ms(self) -> float:
        return 0.0

    def wall_ms(self) -> int:
        return 0

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> TimerHandle:
        raise AssertionError("whoever reads a log waits for nothing")

    def call_soon(self, callback: Callable[[], None]) -> None:
        raise AssertionError("whoever reads a log waits for nothing")

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        raise AssertionError("whoever reads a log starts nothing")

    def halt(self, reason: str) -> NoReturn:
        raise OSError(reason)

    def fail(self, error: Exception) -> NoReturn:
        raise error

    def log(self, event: str, **facts: Any) -> None:
        return
