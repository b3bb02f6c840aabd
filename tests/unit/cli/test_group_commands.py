"""`lograft group`: what it shows, what it asks, what it refuses. The cluster is one that answers as it is told."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pytest
from lograft.client import client as client_module
from lograft.client.cli.group_commands import (
    description_as_json,
    description_text,
    listing_text,
    outcome_text,
    plan_as_json,
    plan_text,
)
from lograft.client.cli.main import main
from lograft.client.groups import GroupDescription, GroupListing, GroupMember, GroupPartition, Seeked
from lograft.client.records import TopicPartition
from lograft.client.seek_plan import LeftOut, Move, SeekPlan
from lograft.proto import errors

BROKERS = ["--brokers", "127.0.0.1:1"]


def a_partition(number: int = 0, stored: int | None = 120, **more: Any) -> GroupPartition:
    facts: dict[str, Any] = {
        "topic_id": "id",
        "member_id": "m-1",
        "next_member_id": "",
        "generation": 7,
        "metadata": "",
        "stored_ms": 5,
        "start_offset": 0,
        "committed_offset": 130,
        "lag_records": 10,
        "lag_seconds": 3.21,
    }
    topic = more.pop("topic", "events")
    return GroupPartition(TopicPartition(topic, number), stored_offset=stored, **(facts | more))


def a_member(member_id: str = "m-1", instance_id: str = "", **more: Any) -> GroupMember:
    facts: dict[str, Any] = {
        "client_id": "app",
        "host": "10.0.0.7",
        "topics": ("events",),
        "pattern": None,
        "partitions": 1,
        "session_timeout_ms": 10_000,
        "heard_ms_ago": 1_300,
        "joined_ms": 1,
    }
    return GroupMember(member_id, instance_id, **(facts | more))


def a_group(*partitions: GroupPartition, members: tuple[GroupMember, ...] = (a_member(),)) -> GroupDescription:
    records = sum(one.lag_records or 0 for one in partitions)
    seconds = max((one.lag_seconds or 0.0 for one in partitions), default=0.0)
    return GroupDescription("billing", "stable", 7, 1, members, partitions, records, seconds)


def a_move(number: int, stored: int | None, to: int, owner: str = "m-1", asked: int | None = None) -> Move:
    return Move(TopicPartition("events", number), "id", owner, stored, to, to if asked is None else asked)


PLAN = SeekPlan(
    "billing",
    7,
    (a_move(0, 120, 20), a_move(1, 7, 7, owner="m-2"), a_move(2, None, 0, owner="", asked=-5), a_move(3, 5, 1_005)),
    (LeftOut(TopicPartition("events", 4), "nothing is stored to shift"),),
)


# What is shown --------------------------------------------------------------------------------------------------------


def test_a_list_is_a_line_for_each_group() -> None:
    groups = [
        GroupListing("billing", "stable", 2, 6, ("events", "orders"), 1),
        GroupListing("old", "empty", 0, 0, (), 2),
    ]
    assert listing_text(groups).splitlines() == [
        "GROUP    STATE   MEMBERS  PARTITIONS  TOPICS         COORDINATOR",
        "billing  stable        2           6  events,orders            1",
        "old      empty         0           0  -                        2",
    ]


def test_a_description_begins_with_state_and_lag_and_has_a_line_for_each_partition() -> None:
    group = a_group(a_partition(0), a_partition(1, stored=None, lag_records=1_224, lag_seconds=310.0))
    assert description_text(group, members=False).splitlines() == [
        "billing: stable, 1 member, generation 7, coordinated by broker 1",
        "lag: 1,234 records, 5 min behind",
        "",
        "TOPIC   PARTITION  OWNER  STORED  END   LAG  BEHIND",
        "events          0  m-1       120  130    10  3.2 s",
        "events          1  m-1         -  130  1224  5 min",
    ]


def test_lag_that_is_not_known_is_said_and_not_counted() -> None:
    group = a_group(a_partition(0), a_partition(1, committed_offset=None, lag_records=None, lag_seconds=None))
    shown = description_text(group, members=False)
    assert "lag: 10 records, 3.2 s behind; not known of 1 partition" in shown
    assert shown.splitlines()[-1].split() == ["events", "1", "m-1", "120", "?", "?", "?"]


def test_owners_are_shown_by_instance_id_and_a_partition_on_its_way_with_both() -> None:
    members = (a_member("m-1", "worker-a"), a_member("m-2"))
    shown = description_text(a_group(a_partition(next_member_id="m-2"), members=members), members=False)
    assert "worker-a -> m-2" in shown


def test_several_topics_are_summed_up_each() -> None:
    group = a_group(a_partition(0), a_partition(1), a_partition(0, topic="orders", lag_records=0, lag_seconds=0.0))
    assert description_text(group, members=False).splitlines()[-3:] == [
        "TOPIC   LAG  BEHIND",
        "events   20  3.2 s",
        "orders    0  0 s",
    ]


def test_members_are_shown_when_asked_for() -> None:
    member = a_member(pattern="ev.*", topics=(), heard_ms_ago=None)
    *_, titles, line = description_text(a_group(members=(member,)), members=True).splitlines()
    assert titles.split() == ["MEMBER", "INSTANCE", "CLIENT", "HOST", "PARTITIONS", "SESSION", "HEARD", "READS"]
    assert line.split() == ["m-1", "-", "app", "10.0.0.7", "1", "10", "s", "not", "yet", "/ev.*/"]


def test_a_member_is_shown_to_read_the_topics_it_names_beside_its_pattern() -> None:
    shown = description_text(a_group(members=(a_member(pattern="ev.*", topics=("orders", "audit")),)), members=True)
    assert shown.endswith("orders,audit,/ev.*/")


def test_what_others_wrote_cannot_move_the_cursor() -> None:
    member = a_member("m-1", client_id="\x1b[2Jx", pattern="a\nb")
    group = a_group(a_partition(metadata="tab\there"), members=(member,))
    shown = description_text(group, members=True)
    assert "\x1b" not in shown
    assert "tab?here" in shown
    assert "/a?b/" in shown


def test_a_plan_has_a_line_for_each_partition_and_says_what_it_comes_to() -> None:
    assert plan_text(PLAN).splitlines() == [
        "TOPIC   PARTITION  OWNER  FROM    TO  CHANGE",
        "events          0  m-1     120    20  -100",
        "events          1  m-2       7     7  same",
        "events          2  -         -     0  new (as far as it goes)",
        "events          3  m-1       5  1005  +1,000",
        "",
        "left out: events-4, nothing is stored to shift",
        "4 partitions: 100 records to be read again, 1,000 records to be passed over; 2 members will be told",
    ]


def test_an_outcome_names_members_and_generation() -> None:
    assert outcome_text(PLAN, Seeked(9, 3)) == (
        "moved billing: 4 partitions, of which 3 were granted anew to 2 members, in generation 9"
    )
    assert outcome_text(PLAN, Seeked(0, 0)) == "moved billing: 4 partitions, none of which a member reads now"


def test_json_has_null_for_what_is_not_known_and_for_what_was_not_done() -> None:
    shown = description_as_json(a_group(a_partition(stored=None, lag_seconds=None, lag_records=None)))
    assert shown["partitions"][0]["stored_offset"] is None
    assert shown["partitions"][0]["lag_seconds"] is None
    assert shown["members"][0]["instance_id"] is None
    planned = plan_as_json(PLAN, None)
    assert (planned["moved"], planned["generation"]) == (False, None)
    assert planned["moves"][2] == {
        "topic": "events", "partition": 2, "owner": None, "from": None, "to": 0, "change": None, "asked": -5
    }  # fmt: skip
    assert plan_as_json(PLAN, Seeked(9, 3))["generation"] == 9


# What is asked and refused --------------------------------------------------------------------------------------------


class FakeGroups:
    """Answers from what it was given, and notes what it was told to change."""

    def __init__(self, described: Mapping[str, Any] | None = None, plan: SeekPlan = PLAN) -> None:
        self.described = dict(described or {})
        self.plan = plan
        self.changes: list[Any] = []
        self.planned: list[Any] = []

    async def list(self) -> Any:
        return [GroupListing("billing", "stable", 1, 6, ("events",), 1)]

    async def describe(self, group: str) -> GroupDescription:
        answer = self.described.get(group, errors.UnknownGroup(f"There is no group {group!r}"))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def plan_seek(self, group: str, to: Any, topics: Any, partitions: Any) -> SeekPlan:
        self.planned.append((group, topics, partitions))
        return self.plan

    async def seek(self, group: str, plan: SeekPlan) -> Seeked:
        self.changes.append((group, plan))
        return Seeked(9, 3)

    async def delete(self, group: str) -> None:
        self.changes.append(group)


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> FakeGroups:
    fake = FakeGroups({"billing": a_group(a_partition())})

    class FakeClient:
        def __init__(self, addresses: Any, **more: Any) -> None:
            self.groups = fake

        async def __aenter__(self) -> FakeClient:
            return self

        async def __aexit__(self, *error: Any) -> None:
            pass

    monkeypatch.setattr(client_module, "Client", FakeClient)
    return fake


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Somebody sits at a terminal, and types this."""
    typed = io.StringIO(text)
    monkeypatch.setattr(typed, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin", typed)


def test_lists_and_descriptions_come_as_tables_or_json(groups: FakeGroups, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["group", "list", *BROKERS]) == 0
    assert capsys.readouterr().out.startswith("GROUP")
    assert main(["group", "list", "-o", "json", *BROKERS]) == 0
    assert json.loads(capsys.readouterr().out)[0]["group"] == "billing"
    assert main(["group", "describe", "billing", *BROKERS]) == 0
    assert "billing: stable" in capsys.readouterr().out
    assert main(["group", "describe", "billing", "-o", "json", *BROKERS]) == 0
    assert json.loads(capsys.readouterr().out)["lag_records"] == 10


@pytest.mark.parametrize("arguments", [["describe", "nosuch"], ["describe", "nosuch", "-w"]])
def test_an_unknown_group_is_one_line_and_exit_code_1(
    groups: FakeGroups, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(["group", *arguments, *BROKERS]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "lograft: there is no group 'nosuch'\n")


def test_a_seek_that_nobody_can_be_asked_about_is_refused_with_what_to_add(
    groups: FakeGroups, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["group", "seek", "billing", "--to", "start", *BROKERS]) == 1
    assert "add --yes to move it, or --dry-run" in capsys.readouterr().err
    assert groups.planned == groups.changes == []


def test_a_dry_run_shows_the_plan_and_changes_nothing(groups: FakeGroups, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["group", "seek", "billing", "--to", "start", "--dry-run", *BROKERS]
    assert main(arguments) == 0
    told = capsys.readouterr()
    assert told.out == plan_text(PLAN) + "\n"
    assert told.err == "nothing was changed\n"
    assert main([*arguments, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["moved"] is False
    assert groups.changes == []


def test_yes_shows_the_plan_and_carries_it_out(groups: FakeGroups, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["group", "seek", "billing", "--to", "shift:-100", "--topic", "events", "-p", "0,1,0", "-y", *BROKERS]
    assert main(arguments) == 0
    told = capsys.readouterr()
    assert told.out == plan_text(PLAN) + "\n"
    assert told.err == outcome_text(PLAN, Seeked(9, 3)) + "\n"
    assert groups.planned == [("billing", ["events"], (0, 1))]
    assert groups.changes == [("billing", PLAN)]


def test_a_seek_is_asked_about_on_a_terminal_and_a_no_is_a_no(
    groups: FakeGroups, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "n\n")
    assert main(["group", "seek", "billing", "--to", "start", *BROKERS]) == 1
    told = capsys.readouterr()
    assert "was not moved" in told.err
    assert "FROM" in told.out
    assert groups.changes == []
    answer(monkeypatch, "y\n")
    assert main(["group", "seek", "billing", "--to", "start", "-o", "json", *BROKERS]) == 0
    told = capsys.readouterr()
    assert "FROM" in told.err, "who is asked sees the plan, whatever goes to standard output"
    assert json.loads(told.out)["generation"] == 9
    assert len(groups.changes) == 1


def test_a_plan_without_moves_is_refused_and_says_why(groups: FakeGroups, capsys: pytest.CaptureFixture[str]) -> None:
    groups.plan = SeekPlan("billing", 7, (), (LeftOut(TopicPartition("events", 4), "nothing is stored to shift"),))
    assert main(["group", "seek", "billing", "--to", "shift:-1", "-y", *BROKERS]) == 1
    told = capsys.readouterr()
    assert "left out: events-4" in told.out
    assert "name a --topic" in told.err
    assert groups.changes == []


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (["seek", "g", "--to", "yesterday"], 2, "'yesterday' is no place to move a group to"),
        (["seek", "g"], 2, "--to"),
        (["seek", "g", "--to", "start", "-p", "0,x"], 2, "'0,x' is no list of numbers"),
        (["seek", "g", "--to", "@2199-01-01", "-y"], 1, "still to come, and no record can be there yet: use end"),
        (["describe"], 2, "missing argument 'group'"),
    ],
)
def test_wrong_usage_and_times_to_come_are_refused_before_anybody_is_asked(
    groups: FakeGroups, capsys: pytest.CaptureFixture[str], arguments: list[str], exit_code: int, says: str
) -> None:
    assert main(["group", *arguments]) == exit_code
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert groups.planned == []


def test_a_deletion_is_asked_about_on_a_terminal_alone(
    groups: FakeGroups, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "n\n")
    assert main(["group", "delete", "billing", *BROKERS]) == 1
    told = capsys.readouterr()
    assert "delete billing with the stored offsets of 1 partition?" in told.err
    assert groups.changes == []
    assert main(["group", "delete", "billing", "-y", *BROKERS]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["group", "delete", "billing", *BROKERS]) == 0
    assert groups.changes == ["billing", "billing"]


@pytest.mark.parametrize("output", ["text", "json"])
def test_watching_repeats_the_table_where_there_is_no_terminal_until_it_is_interrupted(
    groups: FakeGroups, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.setattr("lograft.client.cli.group_commands._WATCH_INTERVAL_S", 0)
    answers = iter([None, None, errors.NoLeader("election"), None])

    async def describe(group: str) -> GroupDescription:
        try:
            failure = next(answers)
        except StopIteration:
            raise KeyboardInterrupt from None
        if failure is not None:
            raise failure
        return a_group(a_partition())

    groups.describe = describe  # type: ignore[method-assign]
    assert main(["group", "describe", "billing", "-w", "-o", output, *BROKERS]) == 130
    told = capsys.readouterr()
    assert told.err == "lograft: election\n"
    if output == "json":
        assert len([json.loads(line) for line in told.out.splitlines()]) == 4
    else:
        assert told.out.count("billing: stable") == 4
