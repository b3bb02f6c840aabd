"""Part of a topic once more, into another topic: keys, headers and times as they were, order within a partition too.

python replay.py orders orders-again --start @-1h
python replay.py orders orders-again --start @2026-11-20T08:00:00Z --stop @2026-11-20T09:00:00Z
"""

import argparse
import asyncio
import os

import lograft

BROKERS = os.environ.get("LOGRAFT_BROKERS", "127.0.0.1:9600")


async def replay(source: str, target: str, start: str, stop: str) -> int:
    count = 0
    async with lograft.Client(BROKERS) as client:
        partitions = len((await client.admin.describe_topic(source)).partitions)
        await client.admin.create_topic(target, partitions=partitions, exist_ok=True)
        async with client.producer() as producer:
            async for record in client.read(source, start=start, stop=stop):  # both ends are fixed when it begins
                await producer.send(
                    target,
                    record.value,
                    key=record.key,
                    headers=record.headers,
                    partition=record.partition,
                    timestamp_ms=record.timestamp_ms,
                )
                count += 1
        # Leaving the producer waited for every acknowledgement, and would have raised for each record that failed.
    return count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Copy a range of one topic to another.")
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--start", default="start")
    parser.add_argument("--stop", default="end")
    told = parser.parse_args()
    print("replayed", asyncio.run(replay(told.source, told.target, told.start, told.stop)), "records")
