"""Errors of a disk that does not give what is there: it may another time."""

from __future__ import annotations

from ...proto.errors import CorruptBatch, NewerFormat
from ..environment import Disk
from .repair import Hole
from .segment import batches, read_head, segment_path


def is_disk_error(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError)


def gives_bytes_at(disk: Disk, directory: str, hole: Hole) -> bool:
    """Does the disk give, whatever they hold, the bytes for which it gave an error? At most one item is read.

    False where no error made the hole.
    """
    if not hole.is_error:
        return False
    try:
        if hole.segment < 0:
            read_head(disk, directory, hole.bases[0])
        file = disk.open(segment_path(directory, hole.bases[max(hole.segment, 0)]) + ".log")
        try:
            if hole.segment >= 0:
                next(batches(file, hole.position, file.size(), 0), None)
        finally:
            file.close()
    except CorruptBatch:
        pass
    except NewerFormat:
        return False  # it is nothing for this version to read, and the next start says so
    except ValueError as error:
        return not is_disk_error(error.__cause__)
    except OSError as error:
        return not is_disk_error(error)
    return True
