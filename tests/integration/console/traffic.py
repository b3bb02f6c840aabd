"""A slow trickle into a topic, and two members of a group that read some of it: so there is lag, and it changes.

`python -m tests.integration.console.traffic ADDRESSES TOPIC GROUP`, until it is ended.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys

import lograft


def order(number: int) -> bytes:
    """Hostile in part: it is to be shown, not run."""
    said = {
        "id": number,
        "status": "failed" if number % 7 == 0 else "ok",
        "order": {"total": number * 3, "items": [{"sku": f"A-{number}", "count": 2}]},
        "big": 2**60 + number,
        "note": "<img src=x onerror=alert(1)><script>alert(2)</script>",
    }
    return json.dumps(said).encode()


async def read(addresses: str, topic: str, group: str, name: str) -> None:
    async with (
        lograft.Client(addresses, client_id=name) as client,
        client.consumer(topic, group_id=group, auto_offset_reset="earliest") as consumer,
    ):
        for turn in itertools.count():
            try:
                await consumer.getmany(timeout_ms=200, max_records=2)
                if turn % 4 == 0:
                    await consumer.commit()
            except lograft.LograftError:
                pass  # a broker was killed: whoever follows it tries again
            await asyncio.sleep(0.4)


async def write(addresses: str, topic: str) -> None:
    async with lograft.Client(addresses) as client, client.producer() as producer:
        for number in itertools.count(1_000):
            await producer.send_and_wait(topic, order(number), key=b"customer-%d" % (number % 9))
            await asyncio.sleep(0.2)


async def main(addresses: str, topic: str, group: str) -> None:
    await asyncio.gather(
        read(addresses, topic, group, "shipper-1"), read(addresses, topic, group, "shipper-2"), write(addresses, topic)
    )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
