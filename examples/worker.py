"""A worker that shares the orders with every other worker of the group: start it several times, and kill one.

    python worker.py

A record is handled again if a worker dies after handling it and before storing how far it came, so handling twice must
do no harm. No record is left out.
"""

import asyncio
import os
import signal

import lograft

BROKERS = os.environ.get("LOGRAFT_BROKERS", "127.0.0.1:9600")


async def handle(record: lograft.Record) -> None:
    print(f"handled partition={record.partition} offset={record.offset} {(record.value or b'').decode()}", flush=True)


async def told(partitions: list[lograft.TopicPartition]) -> None:
    print("mine now:", ", ".join(map(str, partitions)), flush=True)


async def work() -> None:
    async with (
        lograft.Client(BROKERS) as client,
        client.consumer("orders", group_id="workers", auto_offset_reset="earliest", on_assign=told) as consumer,
    ):
        while True:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    await handle(record)
            try:
                await consumer.commit()  # only now: what was not handled is not stored
            except lograft.errors.LostGrant:
                pass  # another worker has the partition now, and handles these once more


async def until_stopped() -> None:
    working = asyncio.create_task(work())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, working.cancel)
    try:
        await working  # leaving the group on the way out: the others need not wait for the session to end
    except asyncio.CancelledError:
        pass


if __name__ == "__main__":
    asyncio.run(until_stopped())
