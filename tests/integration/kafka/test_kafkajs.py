"""kafkajs, as it comes from npm: admin, an idempotent producer, a group."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.integration.brokers import Brokers
from tests.integration.kafka.kafkajs import directory, what_is_missing

SESSION = Path(__file__).with_name("kafkajs_session.js")
RECORDS = 300


@pytest.mark.skipif(bool(what_is_missing()), reason=what_is_missing() or "it is here")
def test_kafkajs_makes_a_topic_fills_it_reads_it_in_a_group_and_deletes_both(brokers: Brokers, bootstrap: str) -> None:
    command = ["node", str(SESSION), str(directory()), bootstrap, "kafkajs", str(RECORDS)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    told = json.loads(ended.stdout.splitlines()[-1])
    assert (told["created"], told["partitions"], told["brokers"]) == (True, 3, 3)
    assert sorted(int(value[1:]) for _, _, _, value, _ in told["read"]) == list(range(RECORDS))
    places = [(partition, offset) for partition, offset, *_ in told["read"]]
    assert len(set(places)) == RECORDS
    for partition in range(3):
        mine = [(offset, key, value, at) for found, offset, key, value, at in told["read"] if found == partition]
        assert [offset for offset, *_ in mine] == list(range(len(mine)))
        for key in {key for _, key, _, _ in mine}:
            values = [int(value[1:]) for _, found, value, _ in mine if found == key]
            assert values == sorted(values), "records of one key are out of order"
        assert all(value == f"v{at}" and key == f"k{int(at) % 7}" for _, key, value, at in mine)
    ends = {one["partition"]: one["high"] for one in told["ends"]}
    assert sum(map(int, ends.values())) == RECORDS
    stored = {one["partition"]: one["offset"] for one in told["stored"]}
    assert {partition: offset for partition, offset in stored.items() if offset != "-1"} == {
        partition: end for partition, end in ends.items() if end != "0"
    }
    assert told["state"] == "Stable" and "of-kafkajs" in told["groups"]
    assert [one["errorCode"] for one in told["deleted"]] == [0]
    assert "kafkajs" not in told["topics"]
