"""Words counted over a stream: exact counts, however often this is killed and started again.

    python word_count.py
    echo 'to be or not to be' | lograft produce lines
    lograft consume word-counts -o start -f '%k %v\\n'

The counts live in a compacted topic, which keeps the newest record of each word. Beside its count, each word's record
says up to which offset of each partition the lines are in it. So a line that is read once more, because this was killed
before it stored how far it came, is known and not counted twice. One process at a time; to share the work, have a first
stage write each word as a record with the word as its key.
"""

import asyncio
import json
import os
import re
from collections import defaultdict
from dataclasses import asdict, dataclass, field

import lograft

BROKERS = os.environ.get("LOGRAFT_BROKERS", "127.0.0.1:9600")


@dataclass
class Count:
    count: int = 0
    upto: dict[str, int] = field(default_factory=dict)
    """Partition of the lines -> next offset that is not in the count."""


async def known_counts(client: lograft.Client) -> dict[str, Count]:
    counts: dict[str, Count] = defaultdict(Count)
    async for record in client.read("word-counts"):  # from the start to what is the end now
        counts[(record.key or b"").decode()] = Count(**json.loads(record.value or b"{}"))
    return counts


def add(counts: dict[str, Count], line: lograft.Record) -> set[str]:
    """Count the words of a line, and say which counts changed."""
    partition, changed = str(line.partition), set()
    words = re.findall(r"\w+", (line.value or b"").decode(errors="replace").lower())
    for word in set(words):
        known = counts[word]
        if line.offset >= known.upto.get(partition, 0):
            known.count += words.count(word)
            known.upto[partition] = line.offset + 1
            changed.add(word)
    return changed


async def count_words() -> None:
    async with (
        lograft.Client(BROKERS) as client,
        client.producer() as producer,
        client.consumer("lines", group_id="word-count", auto_offset_reset="earliest") as consumer,
    ):
        counts = await known_counts(client)
        while True:
            changed: set[str] = set()
            for lines in (await consumer.getmany(timeout_ms=1000)).values():
                for line in lines:
                    changed |= add(counts, line)
            for word in sorted(changed):
                await producer.send("word-counts", json.dumps(asdict(counts[word])).encode(), key=word.encode())
            await producer.flush()  # the counts are safe first,
            await consumer.commit()  # then how far they go


if __name__ == "__main__":
    try:
        asyncio.run(count_words())
    except KeyboardInterrupt:
        pass
