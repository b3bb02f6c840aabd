"""The directory in which one broker keeps all that it must not lose, claimed by one process at a time.

Always holds
    whoever holds a DataDirectory holds the lock on its `lock` file; the lock ends with the process, however it ends
    its own name was durable before anything was written in it, or a power failure would take it as a whole
    the `format` file was durable before anything else was written here
    nothing in the directory is a symbolic link: what is synced and what is cut lies in this directory and nowhere else
    a directory of which a newer copy was seen to run is not used again: it lacks what that one acknowledged
The identity of the directory is not kept here but in the first frame of `promises.log`: it must be lost with them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec

from ..proto.errors import UNDECODABLE, InvalidConfig

FORMAT = 1
"""Of all that is stored here. A broker refuses a directory of a later one; one that stores what an older version would
misread raises the number, durably, before it does (`partitions/storage/formats.py`)."""


SUPERSEDED = "superseded"
"""The file that says that a newer copy of this directory has run."""


class _Format(msgspec.Struct, frozen=True):
    """What stands in the `format` file. Fields that a later version adds are passed over."""

    format: int
    broker_id: int


class _Superseded(msgspec.Struct, frozen=True):
    directory_id: str
    """Another one now: the word was lost since, and what runs here is somebody else."""
    start_number: int
    """Of the process that ended because a copy of this directory had started later."""
    why: str


class _FormatNumber(msgspec.Struct, frozen=True):
    """All that is surely in the `format` file of a version to come."""

    format: int


class DataDirectory:
    """A claimed data directory. `release` gives it up; so does the end of the process.

    Raises
        InvalidConfig  in one line: what stands in the way, and what to do about it
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def claim(cls, path: str | Path, broker_id: int) -> Self:
        """Make the directory if need be, lock it, and see that it is this broker's and of a format we read."""
        path = Path(path).absolute()
        try:
            _make_durably(path)
            lock = _lock(path)
            try:
                _refuse_links(path)
                _check_format(path, broker_id)
            except BaseException:
                os.close(lock)
                raise
        except OSError as error:
            culprit = error.filename or path
            raise InvalidConfig(
                f"data directory {path}: {culprit}: {(error.strerror or str(error)).lower()}; "
                "set broker.data_directory to a directory that this user may write",
                key="broker.data_directory",
            ) from None
        return cls(path, lock)

    def release(self) -> None:
        """Let another process claim the directory."""
        os.close(self._lock)

    def note_superseded(self, directory_id: str, start_number: int, why: str) -> None:
        """This process, of the start number given, must end: a copy of this directory has started later. Durable.

        Every start raises the number, so the one after next would be believed again.
        """
        _write_durably(
            self.path / SUPERSEDED, msgspec.json.encode(_Superseded(directory_id, start_number, why)) + b"\n"
        )

    def check_not_superseded(self, directory_id: str, start_number: int) -> None:
        """`start_number`: of the last process that ran here. Raises InvalidConfig."""
        name = self.path / SUPERSEDED
        try:
            noted = msgspec.json.decode(name.read_bytes(), type=_Superseded)
        except FileNotFoundError:
            return
        except UNDECODABLE:
            noted = _Superseded(directory_id, start_number, f"{name} is unreadable")
        # A later process in this very directory: a disk that both saw.
        if noted.directory_id != directory_id or noted.start_number < start_number:
            return
        raise InvalidConfig(
            f"data directory {self.path} is an older copy ({noted.why}), and may lack what the newer one acknowledged; "
            "use that one, or, if it is gone, delete this one: the broker then gets its replicas from the others",
            key="broker.data_directory",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


def raise_open_files_limit() -> int:
    """Raise RLIMIT_NOFILE as far as the system lets this process, and return it: every replica holds files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = 1 << 20
    if soft == resource.RLIM_INFINITY or soft >= hard:
        return hard if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    except (OSError, ValueError):
        return soft  # some systems name a hard limit that they do not grant
    return hard


def _lock(path: Path) -> int:
    name = path / "lock"
    try:
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError:
        if name.is_symlink():
            raise _link_refused(name) from None
        raise
    try:
        # flock, not a file that is merely there: it ends with its process, so a crash leaves nothing to clean up.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        is_checked = _may_share(lock)
        holder = _holder(lock)
        os.close(lock)
        if is_checked:
            raise InvalidConfig(
                f"data directory {path} is being checked by `lograft check log`; start the broker once that has ended",
                key="broker.data_directory",
            ) from None
        raise InvalidConfig(
            f"data directory {path} is in use by process {holder}; "
            "stop that process, or set broker.data_directory to another one",
            key="broker.data_directory",
            process=holder,
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def share_lock(path: Path) -> int | None:
    """Keep brokers from starting on a directory while it is read; a descriptor to be closed, None if it has no lock.

    Nothing is written. Raises InvalidConfig: a broker runs on it.
    """
    try:
        lock = os.open(path / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    if _may_share(lock):
        return lock
    holder = _holder(lock)
    os.close(lock)
    raise InvalidConfig(
        f"data directory {path} is in use by process {holder}", key="broker.data_directory", process=holder
    )


def _may_share(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(lock: int) -> str:
    return os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"


def first_link(path: Path) -> Path | None:
    """A symbolic link in a data directory, for which a broker would refuse it."""
    return next((Path(entry.path) for entry in _entries(str(path)) if entry.is_symlink()), None)


def read_format(path: Path) -> tuple[int, int | None]:
    """Format and broker id, as the `format` file says; the id is None of a format that is not known here.

    Raises ValueError, OSError: it cannot be read.
    """
    text = (path / "format").read_bytes()
    number = msgspec.json.decode(text, type=_FormatNumber).format
    return number, msgspec.json.decode(text, type=_Format).broker_id if number <= FORMAT else None


def _refuse_links(path: Path) -> None:
    link = first_link(path)
    if link is not None:
        raise _link_refused(link)


def _entries(path: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path)


def _link_refused(name: Path) -> InvalidConfig:
    return InvalidConfig(
        f"{name} is a symbolic link; put the file itself there, or set broker.data_directory to where the link leads",
        key="broker.data_directory",
    )


def _check_format(path: Path, broker_id: int) -> None:
    name = path / "format"
    expected = _Format(FORMAT, broker_id)
    try:
        text = name.read_bytes()
    except FileNotFoundError:
        if (path / "promises.log").exists() or (path / "partitions").exists():
            raise InvalidConfig(
                f"{name} is missing beside stored logs, so whose they are is unknown; "
                f"if they are broker {broker_id}'s, write this line to it: {msgspec.json.encode(expected).decode()}",
                key="broker.data_directory",
            ) from None
        _write_durably(name, msgspec.json.encode(expected) + b"\n")
        return
    try:
        number = msgspec.json.decode(text, type=_FormatNumber).format
        if number > FORMAT:
            raise InvalidConfig(
                f"data directory {path} has format {number}, this lograft reads up to {FORMAT}, and changed nothing; "
                "install the newer lograft again",
                key="broker.data_directory",
            )
        found = msgspec.json.decode(text, type=_Format)
    except UNDECODABLE:
        raise InvalidConfig(
            f"{name} is unreadable; if the logs beside it are broker {broker_id}'s, "
            f"write this line to it: {msgspec.json.encode(expected).decode()}",
            key="broker.data_directory",
        ) from None
    if found.broker_id != broker_id:
        raise InvalidConfig(
            f"data directory {path} belongs to broker {found.broker_id}, and this is broker {broker_id}; "
            "set broker.id or broker.data_directory right",
            key="broker.data_directory",
        )


def _write_durably(name: Path, content: bytes) -> None:
    fresh = name.with_suffix(".new")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        os.write(file, content)
        os.fsync(file)
    finally:
        os.close(file)
    os.rename(fresh, name)
    _sync_directory(name.parent)


_NOT_FOR_US = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.EROFS)
"""Of a directory that we may pass through but not read, or of a file system that syncs none, such as squashfs."""


def _make_durably(path: Path) -> None:
    # Of one that is there already as well: who made it may have died before its name was synced.
    made_in = [path.parent, *(parent.parent for parent in path.parents if not parent.exists())]
    path.mkdir(parents=True, exist_ok=True)
    for parent in dict.fromkeys((*made_in, path.resolve().parent)):
        try:
            _sync_directory(parent)
        except OSError as error:
            if error.errno not in _NOT_FOR_US:
                raise
            os.sync()  # everything, then


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
