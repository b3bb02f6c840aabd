"""How stored files say of which format they are, and what is done about one that only a later version reads.

Invariants
    a file of a later format is refused by name and left as it is: never taken for damage, rebuilt, cut or written to
    what can be made again from other files (indexes) is passed over and made again, in memory; the file stays
    where a file says its format never moves, and is under a CRC, so that a flipped bit is not taken for a later version

Which number covers what
    `format` of the data directory   everything in it: a version that stores anything that the one before would misread
                                     raises it, durably, before it does
    `.head`, `reset.head`            the head, and the items of its segment, the magic of its batches included: what an
                                     older version cannot read goes into a new segment, with a higher number
    rounds of `promises.log`         the frames of that round: a new kind of them goes into one with a higher number
    `.index`, `.timeindex`           themselves

A number is raised only for what older versions must not pass over. A field at the end of a head is not such a thing.
"""

from __future__ import annotations

from ...proto.errors import NewerFormat


def refuse_newer(path: str, found: int, known: int) -> None:
    """Raises NewerFormat if the file's format `found` is later than all that are `known` here."""
    if found > known:
        raise NewerFormat(
            f"{path} has format {found}, this lograft reads up to {known}, and changed nothing; "
            "install the newer lograft again",
            file=path,
            found=found,
            known=known,
        )
