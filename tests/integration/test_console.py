"""The console on a broker's HTTP port: what it tells of a living cluster, and what it changes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lograft
import pytest
from lograft.proto.record_batch import Compression, Header, NewRecord, encode

from tests.integration.brokers import Broker, Brokers, a_batch, eventually
from tests.integration.consoles import Console, group_path


@pytest.fixture
def console(brokers: Brokers) -> Console:
    return Console(brokers[1])


def leader(brokers: Brokers, topic: str, partition: int = 0) -> Broker:
    return brokers.leader_of(topic, partition)


def filled(brokers: Brokers, name: str, counts: list[int], *, begin_ms: int = 1_700_000_000_000) -> str:
    """A new topic; record n of all has the time `begin_ms` + n seconds, and goes to the partitions in turn."""
    brokers.create_topic(name, len(counts))
    number = 0
    for partition, count in enumerate(counts):
        for _ in range(count):
            at_ms = begin_ms + 1000 * (number % max(counts) * len(counts) + partition)
            value = json.dumps({"n": number, "status": "failed" if number % 7 == 0 else "ok"}).encode()
            leader(brokers, name, partition).produce(name, a_batch(value, timestamp_ms=at_ms), partition=partition)
            number += 1
    return name


@pytest.fixture(scope="module")
def orders(shared_brokers: Brokers) -> Iterator[str]:
    """Three partitions with 20, 10 and no records."""
    yield filled(shared_brokers, "console-orders", [20, 10, 0])


def places(rows: list[Any]) -> list[tuple[int, int]]:
    return [(row["p"], row["o"]) for row in rows]


def test_the_page_and_all_it_needs_come_from_the_broker(console: Console) -> None:
    assert console.ask("GET", "/").headers["location"] == "/console/"
    page = console.get("")
    assert page.status == 200 and b"main.js" in page.body
    policy = page.headers["content-security-policy"]
    assert "script-src 'self'" in policy and "unsafe-inline" not in policy
    script = console.get("assets/main.js")
    assert script.status == 200 and script.headers["content-type"].startswith("text/javascript")
    again = console.get("assets/main.js", If_None_Match=script.headers["etag"])
    assert again.status == 304 and not again.body
    assert console.get("assets/../../app.py").status == 404
    assert console.get("assets/%2e%2e/app.py").status == 404


def test_any_broker_tells_of_the_whole_cluster(brokers: Brokers, orders: str) -> None:
    for broker in brokers.all:
        told = Console(broker).told("overview")
        assert told["served_by"] == broker.broker_id
        assert [one["id"] for one in told["brokers"]] == [0, 1, 2] and told["cluster"]["cluster_id"]
        assert not told["read_only"], "a loopback address"
        rows = eventually(lambda: {row["name"]: row for row in Console(broker).told("topics")["topics"]}.get(orders))  # noqa: B023
        assert rows["partitions"] == 3
        topic = Console(broker).told(f"topics/{orders}")["topic"]
        assert [one["committed"] for one in topic["partitions"]] == [20, 10, 0] and topic["records"] == 30
        assert all(len(one["replicas"]) == 3 for one in topic["partitions"])


def test_messages_are_told_newest_first_over_all_partitions(console: Console, orders: str) -> None:
    answer = console.search(orders, limit=5)
    times = [row["t"] for row in answer.rows]
    assert len(times) == 5 and times == sorted(times, reverse=True)
    assert answer.lines[-1]["ended"] == "limit"
    everything = console.search(orders, limit=100)
    assert len(everything.rows) == 30 and everything.lines[-1]["ended"] == "all"
    assert json.loads(everything.rows[0]["value"]["text"])["status"] in ("ok", "failed")


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_pages_go_on_exactly_where_the_last_one_ended(console: Console, orders: str, order: str) -> None:
    found: list[tuple[int, int]] = []
    cursor = ""
    for _ in range(20):
        answer = console.search(orders, limit=4, order=order, cursor=cursor)
        found += places(answer.rows)
        last = answer.lines[-1]
        if last["ended"] == "all":
            break
        cursor = ",".join(f"{number}:{at}" for number, at in last["cursor"].items())
    assert sorted(found) == [(0, offset) for offset in range(20)] + [(1, offset) for offset in range(10)]


def test_a_search_keeps_to_its_start_and_its_end_by_offset_count_and_time(console: Console, orders: str) -> None:
    def offsets(**asked: object) -> list[int]:
        return sorted(row["o"] for row in console.search(orders, partitions=0, limit=100, **asked).rows)

    assert offsets(start=5, stop=8) == [5, 6, 7]
    assert offsets(start="-3") == [17, 18, 19]
    assert offsets(start="+18", stop="end") == [18, 19]
    begin_ms = 1_700_000_000_000
    assert offsets(start=f"@{begin_ms + 30_000}") == list(range(10, 20)), "record n is 3 n seconds after the first"
    assert offsets(start=f"@{begin_ms + 29_000}", stop=f"@{begin_ms + 36_000}") == [10, 11]
    assert offsets(start=f"@{begin_ms + 30_000}", stop=f"@{begin_ms + 36_000}", order="oldest") == [10, 11]
    assert offsets(stop=f"@{begin_ms}") == []
    assert offsets(start=1000) == [], "beyond the end is nothing, and no error"


def test_a_filter_looks_through_all_partitions_and_says_how_far_it_came(console: Console, orders: str) -> None:
    answer = console.search(orders, where='status = "failed" and n > 3', limit=100)
    assert sorted(json.loads(row["value"]["text"])["n"] for row in answer.rows) == [7, 14, 21, 28]
    last = answer.lines[-1]
    assert (last["read"], last["total"], last["found"], last["ended"]) == (30, 30, 4, "all")
    assert len(console.search(orders, text='"n": 1', limit=100).rows) == 11
    assert len(console.search(orders, text='/"n": [12],/', limit=100).rows) == 2


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"where": "status"}, 400, "is no condition"),
        ({"text": "/(/"}, 400, "regular expression"),
        ({"start": "yesterday"}, 400, "is no offset"),
        ({"start": "stored"}, 400, "belong to groups"),
        ({"partitions": "9"}, 400, "has no partition 9"),
        ({"partitions": "a"}, 400, "no list of numbers"),
        ({"limit": "0"}, 400, "a number from 1 to"),
        ({"limit": "1e9"}, 400, "a number from 1 to"),
        ({"cursor": "x"}, 400, "none that a search told"),
    ],
)
def test_what_cannot_be_asked_is_told_in_a_line(
    console: Console, orders: str, asked: Any, status: int, said: str
) -> None:
    answer = console.search(orders, **asked)
    assert answer.status == status and said in answer.told["error"] and "\n" not in answer.told["error"]


def test_an_unknown_topic_group_and_record_are_told(console: Console, orders: str) -> None:
    assert console.search("no-such-topic").status == 404
    assert console.get("api/topics/no-such-topic").status == 404
    assert console.get(f"api/{group_path('nobody', 'describe')}").status == 404
    gone = console.get(f"api/topics/{orders}/records/0/999")
    assert gone.status == 400 and "holds no record" in gone.told["error"]
    assert console.get("api/nothing").status == 404


def test_records_of_any_content_are_told_as_what_they_are(console: Console, brokers: Brokers, topic: str) -> None:
    hostile = b"<script>alert(1)</script>\x00"
    records = [
        NewRecord(1, b"\xff\xfe", b"\x80" * 10, (Header("h\xe9", b"\xff"), Header("n", None))),
        NewRecord(2, None, None, ()),
        NewRecord(3, b"", hostile, ()),
        NewRecord(4, b"big", b"x" * 100_000, ()),
    ]
    leader(brokers, topic).produce(topic, encode(records, compression=Compression.NONE))
    big, script, nothing, binary = console.search(topic).rows
    assert (big["value"]["size"], len(big["value"]["text"])) == (100_000, 2048)
    assert script["value"]["text"] == hostile.decode() and script["key"] == {"size": 0, "text": ""}
    assert nothing["key"] is None and nothing["value"] is None
    assert base64.b64decode(binary["value"]["b64"]) == b"\x80" * 10
    assert binary["headers"][1] == ["n", None]
    whole = console.told(f"topics/{topic}/records/0/3")["record"]
    assert whole["value"]["text"] == "x" * 100_000
    answer = console.get(f"api/topics/{topic}/download?limit=10")
    assert "attachment" in answer.headers["content-disposition"]
    lines = answer.lines
    assert [line["offset"] for line in lines] == [3, 2, 1, 0]
    assert lines[0]["value"] == "x" * 100_000 and lines[3]["value"] == {
        "base64": base64.b64encode(b"\x80" * 10).decode()
    }


def test_what_is_produced_is_there_as_it_was_given(console: Console, topic: str) -> None:
    record = {
        "key": {"text": "k"},
        "value": {"b64": base64.b64encode(b"\xff\x00").decode()},
        "headers": [["a", {"text": "1"}], ["b", None]],
        "partition": 0,
    }
    answer = console.post(f"topics/{topic}/records", {"records": [record, {"value": None, "key": {"text": "gone"}}]})
    assert answer.status == 200, answer.body
    assert answer.told["count"] == 2 and "of 3" in answer.told["durability"]
    tombstone, first = console.search(topic).rows
    assert first["key"]["text"] == "k" and base64.b64decode(first["value"]["b64"]) == b"\xff\x00"
    assert first["headers"] == [["a", {"size": 1, "text": "1"}], ["b", None]]
    assert tombstone["value"] is None


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"records": []},
        {"records": [3]},
        {"records": [{"value": {"b64": "%"}}]},
        {"records": [{"headers": [["a"]]}]},
        {"records": [{"value": {"text": "\ud800"}}]},
        {"records": [{"partition": -1}]},
        {"records": [{}] * 1001},
    ],
    ids=range(9),
)
def test_what_cannot_be_produced_is_told_and_nothing_of_it_is(console: Console, topic: str, content: object) -> None:
    answer = console.post(f"topics/{topic}/records", content)
    assert answer.status == 400 and answer.told["error"]
    assert console.search(topic).rows == []


def test_only_the_consoles_own_page_changes_anything(console: Console, topic: str) -> None:
    record = {"records": [{"value": {"text": "x"}}]}
    json_only = {"Content-Type": "application/json"}
    for headers in (
        {"Content-Type": "text/plain", "X-Lograft-Console": "1"},
        json_only,
        {**json_only, "X-Lograft-Console": "1", "Origin": "http://evil.example"},
        {**json_only, "X-Lograft-Console": "1", "Host": "evil.example"},
        {**json_only, "X-Lograft-Console": "1", "Sec-Fetch-Site": "cross-site"},
    ):
        assert console.post(f"topics/{topic}/records", record, headers).status == 403, headers
        assert console.post("topics", {"name": "forged", "partitions": 1}, headers).status == 403, headers
        assert console.post(f"topics/{topic}/settings", {"set": {"retention.ms": "1"}}, headers).status == 403, headers
    assert console.get("api/topics/forged").status == 404 and console.told(f"topics/{topic}")["topic"]["config"] == {}
    assert console.get(f"api/topics/{topic}/records").status == 405
    assert console.search(topic).rows == []


def test_other_pages_read_nothing_and_the_other_consoles_of_the_cluster_do(console: Console, brokers: Brokers) -> None:
    assert console.get("api/overview", Host="evil.example").status == 403
    assert console.get("api/overview", Origin="http://evil.example", Sec_Fetch_Site="cross-site").status == 403
    console.told("overview")
    other = f"http://127.0.0.1:{brokers[0].http_port}"
    answer = console.get("api/overview", Origin=other, Sec_Fetch_Site="same-site")
    assert answer.status == 200 and answer.headers["access-control-allow-origin"] == other
    assert "no-store" in answer.headers["cache-control"]


def test_the_live_tail_tells_what_comes_and_counts_what_it_leaves_out(
    console: Console, brokers: Brokers, topic: str
) -> None:
    with console.stream(f"topics/{topic}/tail?text=seen") as lines:
        assert next(lines) == {"rows": [], "seen": 0, "skipped": 0}
        broker = leader(brokers, topic)
        broker.produce(topic, a_batch(b"seen 1", b"other", b"seen 2"))
        told = next(line for line in lines if line["rows"])
        assert [row["value"]["text"] for row in told["rows"]] == ["seen 1", "seen 2"]
        broker.produce(topic, a_batch(*(b"seen %d" % number for number in range(500))))
        seen = skipped = shown = 0
        for line in lines:
            seen, skipped, shown = seen + line["seen"], skipped + line["skipped"], shown + len(line["rows"])
            if seen >= 500:
                break
        assert seen == 500 and shown + skipped == 500 and 0 < shown <= 100


def test_searches_and_tails_are_bounded_and_end_when_nobody_listens(brokers: Brokers, topic: str) -> None:
    console = Console(brokers[2])
    streams = [console.stream(f"topics/{topic}/tail") for _ in range(8)]
    opened = [stream.__enter__() for stream in streams]
    assert all(next(lines)["seen"] == 0 for lines in opened)
    refused = console.search(topic)
    assert refused.status == 429 and "streams_max" in refused.told["error"]
    assert console.get("api/overview").status == 200, "what is no stream goes on"
    for stream in streams:
        stream.__exit__(None, None, None)
    assert eventually(lambda: console.search(topic).status == 200)


def test_a_group_is_shown_and_moved_by_the_plan_that_was_shown(console: Console, brokers: Brokers, orders: str) -> None:
    async def read() -> None:
        async with (
            asyncio.timeout(20),
            lograft.Client(brokers[0].address) as client,
            client.consumer(orders, group_id="console/readers", auto_offset_reset="earliest") as consumer,
        ):
            seen = 0
            while seen < 30:
                seen += sum(map(len, (await consumer.getmany()).values()))
            await consumer.commit()

    asyncio.run(read())
    path = group_path("console/readers", "describe")
    group = console.told(path)["group"]
    assert group["lag_records"] == 0 and len(group["partitions"]) == 3
    # The list is up to some seconds old: it may tell of the group as it was before it read anything.
    listed = {"group": "console/readers", "topics": [orders]}
    assert eventually(lambda: any(listed.items() <= row.items() for row in console.told("groups")["groups"]))
    plan = console.post(group_path("console/readers", "plan"), {"to": "shift:-4", "partitions": [0]}).told["plan"]
    assert plan["records_back"] == 4
    assert [(move["partition"], move["stored_offset"], move["to_offset"]) for move in plan["moves"]] == [(0, 20, 16)]
    assert console.told(path)["group"]["lag_records"] == 0, "a plan changes nothing"
    done = console.post(group_path("console/readers", "seek"), {"moves": plan["moves"]})
    assert done.status == 200, done.body
    assert console.told(path)["group"]["lag_records"] == 4
    for wrong in ({"to": "nowhere"}, {"to": ""}, {}, {"to": "start", "partitions": ["x"]}):
        assert console.post(group_path("console/readers", "plan"), wrong).status == 400
    assert console.post(group_path("console/readers", "seek"), {"moves": []}).status == 400


@pytest.mark.parametrize("group", ["..", ".", "a/../b", "%2e%2e", "a?b#c"])
def test_a_group_of_any_name_can_be_opened(console: Console, brokers: Brokers, orders: str, group: str) -> None:
    async def store() -> None:
        async with asyncio.timeout(20), lograft.Client(brokers[0].address) as client:
            await client.groups.seek(group, await client.groups.plan_seek(group, "start", [orders]))

    asyncio.run(store())
    assert console.told(group_path(group, "describe"))["group"]["group"] == group
    assert console.post(group_path(group, "plan"), {"to": "end"}).told["plan"]["moves"]


def test_a_topic_is_made_and_its_settings_changed(console: Console) -> None:
    asked = {"name": "console-made", "partitions": 2, "replication": 3, "config": {"retention.ms": "60000"}}
    made = console.post("topics", asked)
    assert made.status == 200 and made.told["partitions"] == 2, made.body
    topic = console.told("topics/console-made")["topic"]
    assert (len(topic["partitions"]), topic["config"]) == (2, {"retention.ms": "60000"})
    changes = {"set": {"segment.ms": "5000000"}, "unset": ["retention.ms"]}
    changed = console.post("topics/console-made/settings", changes)
    assert changed.status == 200 and changed.told["config"] == {"segment.ms": "5000000"}, changed.body
    names = [one["name"] for one in console.told("topic-settings")["settings"]]
    assert "retention.ms" in names and "cleanup.policy" in names


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "a b"}, "name"),
        ({"name": "__mine"}, None),
        ({"partitions": 0}, "partitions"),
        ({"partitions": 100_000}, "partitions"),
        ({"replication": 9}, "replication"),
        ({"config": {"retention.ms": "soon"}}, "retention.ms"),
    ],
)
def test_a_topic_that_cannot_be_made_is_refused_at_the_field_that_is_wrong(
    console: Console, changes: dict[str, Any], field: str | None
) -> None:
    answer = console.post("topics", {"name": "console-unmade", "partitions": 1} | changes)
    assert answer.status == 400 and answer.told.get("field") == field, answer.body
    assert console.get("api/topics/console-unmade").status == 404


def test_elections_are_told_by_every_broker_and_a_leader_is_handed_over(
    console: Console, brokers: Brokers, topic: str
) -> None:
    before = leader(brokers, topic).broker_id
    target = (before + 1) % 3
    answer = eventually(
        lambda: (
            (told := console.post(f"topics/{topic}/partitions/0/leader", {"broker_id": target})).status == 200 and told
        )
    )
    term = answer.told["term"]
    told = eventually(
        lambda: (found := console.told(f"elections?topic={topic}")["elections"]) and found[0]["term"] >= term and found
    )
    began = [change for change in told if change["leads"]]
    assert (began[0]["broker_id"], began[0]["other_id"], began[0]["why"]) == (target, before, "handed_over")
    assert began[-1]["why"] == "first"
    ceased = [change for change in told if not change["leads"]]
    assert ceased[0]["broker_id"] == before


def test_a_killed_broker_is_told_with_reasons_and_the_others_go_on(brokers: Brokers, orders: str) -> None:
    console = Console(brokers[1])
    console.told("overview")
    brokers[2].kill()
    told = eventually(
        lambda: (
            (said := console.told("overview"))["cluster"]["healthy"] is False and said["cluster"]["reasons"] and said
        )
    )
    assert [one["alive"] for one in told["brokers"]] == [True, True, False]
    assert any("2" in reason for reason in told["cluster"]["reasons"])
    found = eventually(lambda: (answer := console.search(orders, limit=100)).status == 200 and answer.rows)
    assert len(found) == 30


def test_a_read_only_console_shows_and_changes_nothing(tmp_path: Path) -> None:
    alone = Brokers(tmp_path, 1, settings="[console]\nread_only = true\nsearch_bytes_max = 1000\n")
    try:
        alone.start()
        console = Console(alone[0])
        alone.create_topic("t")
        alone.leader_of("t").produce("t", a_batch(*(b"x" * 100 for _ in range(300))))
        assert console.told("overview")["read_only"]
        refused = console.post("topics/t/records", {"records": [{"value": {"text": "x"}}]})
        assert refused.status == 403 and "read_only" in refused.told["error"]
        assert console.post("topics/t/partitions/0/leader", {"broker_id": 0}).status == 403
        assert console.post("topics", {"name": "u", "partitions": 1}).status == 403
        assert console.post("topics/t/settings", {"set": {"retention.ms": "1000"}}).status == 403
        assert console.post(group_path("g", "seek"), {"moves": []}).status == 403
        answer = console.search("t", text="nowhere", order="oldest")
        assert answer.lines[-1]["ended"] == "bytes" and 0 < answer.lines[-1]["read"] < 300, "within its budget"
    finally:
        alone.stop()


def test_a_console_that_is_switched_off_is_not_there(tmp_path: Path) -> None:
    alone = Brokers(tmp_path, 1, settings='[console]\nenabled = "no"\n')
    try:
        alone.start()
        assert alone[0].http("/console/")[0] == 404 and alone[0].http("/")[0] == 404
        assert alone[0].http("/healthz")[0] == 200
    finally:
        alone.stop()
